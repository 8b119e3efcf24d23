#include "proxy/base/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cassert>
#include <cerrno>
#include <charconv>
#include <cstddef>
#include <cstring>

namespace relayd {
namespace {

Result<std::uint16_t> parse_port(std::string_view digits, std::string_view whole) {
  unsigned value = 0;
  const auto [end, failure] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (failure != std::errc{} || end != digits.data() + digits.size() || value > 65535) {
    return fail("'" + std::string(whole) +
                "' has no valid port: give one from 0 to 65535, as in 127.0.0.1:8080");
  }
  return static_cast<std::uint16_t>(value);
}

// True where nobody listens on the Unix socket file any more. Only ECONNREFUSED says so: any other failure
// (no permission, another kind of socket, a full queue) may hide a live one, whose file must not be taken
// away.
bool unix_socket_is_stale(const SocketAddress& address) {
  const Descriptor probe(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  return probe && ::connect(probe.get(), address.get(), address.length()) != 0 && errno == ECONNREFUSED;
}

// The cure for a bind or listen that failed, with a leading ": ", or empty.
std::string bind_cure(const SocketAddress& address, int code) {
  if (code == EADDRINUSE) {
    if (address.is_unix()) return ": another process listens there";
    return ": another process listens there ('ss -ltnp' names it), or is connected from there "
           "('ss -tanp'), as may happen to a port within net.ipv4.ip_local_port_range";
  }
  if (code == EADDRNOTAVAIL) return ": this machine has no such address ('ip address' lists its own)";
  if (code == EACCES && !address.is_unix() && address.port() < 1024) {
    return ": ports below 1024 need root, CAP_NET_BIND_SERVICE or a lower "
           "net.ipv4.ip_unprivileged_port_start";
  }
  if (code == ENOENT && address.is_unix()) return ": its folder does not exist";
  return "";
}

std::unexpected<Error> bind_failed(const SocketAddress& address, const std::string& what) {
  const int code = errno;
  Error error = errno_error(what, code);
  error.message += bind_cure(address, code);
  return std::unexpected(std::move(error));
}

}  // namespace

SocketAddress::SocketAddress(const sockaddr* address, socklen_t length)
    : length_(std::min<socklen_t>(length, sizeof storage_)) {
  std::memcpy(&storage_, address, length_);
}

Result<SocketAddress> SocketAddress::unix_path(std::string_view path) {
  sockaddr_un un{};
  un.sun_family = AF_UNIX;
  const bool abstract = path.starts_with('@');
  if (path.size() < (abstract ? 2U : 1U)) return fail("a Unix socket needs a path, as in unix:/run/app.sock");
  if (path.size() + (abstract ? 0 : 1) > sizeof un.sun_path) {
    return fail("the Unix socket path '" + std::string(path) + "' is longer than " +
                std::to_string(sizeof un.sun_path - 1) + " bytes (unix(7)); use a shorter one");
  }
  if (path.find('\0') != std::string_view::npos) return fail("a Unix socket path cannot hold a zero byte");
  std::memcpy(un.sun_path, path.data(), path.size());
  if (abstract) un.sun_path[0] = '\0';
  const std::size_t size = offsetof(sockaddr_un, sun_path) + path.size() + (abstract ? 0 : 1);
  return SocketAddress(reinterpret_cast<const sockaddr*>(&un), static_cast<socklen_t>(size));
}

SocketAddress SocketAddress::loopback(std::uint16_t port) {
  sockaddr_in in{};
  in.sin_family = AF_INET;
  in.sin_port = htons(port);
  in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  return SocketAddress(reinterpret_cast<const sockaddr*>(&in), sizeof in);
}

SocketAddress SocketAddress::from_ip_bytes(std::string_view bytes, std::uint16_t port) {
  if (bytes.size() == sizeof(in_addr)) {
    sockaddr_in in{};
    in.sin_family = AF_INET;
    in.sin_port = htons(port);
    std::memcpy(&in.sin_addr, bytes.data(), sizeof in.sin_addr);
    return SocketAddress(reinterpret_cast<const sockaddr*>(&in), sizeof in);
  }
  assert(bytes.size() == sizeof(in6_addr));
  sockaddr_in6 in6{};
  in6.sin6_family = AF_INET6;
  in6.sin6_port = htons(port);
  std::memcpy(&in6.sin6_addr, bytes.data(), sizeof in6.sin6_addr);
  return SocketAddress(reinterpret_cast<const sockaddr*>(&in6), sizeof in6);
}

Result<SocketAddress> SocketAddress::parse(std::string_view text) {
  if (text.starts_with("unix:")) return unix_path(text.substr(5));
  // inet_pton would stop at a zero byte, and take what stands in front of it.
  if (text.find('\0') != std::string_view::npos) return fail("an address cannot hold a zero byte");
  const std::size_t colon = text.rfind(':');
  if (colon == std::string_view::npos) {
    return fail("'" + std::string(text) + "' has no port: give host:port, as in 127.0.0.1:8080");
  }
  auto port = parse_port(text.substr(colon + 1), text);
  if (!port) return std::unexpected(port.error());
  std::string host(text.substr(0, colon));
  if (host.starts_with('[') && host.ends_with(']')) {
    sockaddr_in6 in6{};
    in6.sin6_family = AF_INET6;
    in6.sin6_port = htons(*port);
    host = host.substr(1, host.size() - 2);
    if (::inet_pton(AF_INET6, host.c_str(), &in6.sin6_addr) == 1) {
      return SocketAddress(reinterpret_cast<const sockaddr*>(&in6), sizeof in6);
    }
  } else {
    sockaddr_in in{};
    in.sin_family = AF_INET;
    in.sin_port = htons(*port);
    if (::inet_pton(AF_INET, host.c_str(), &in.sin_addr) == 1) {
      return SocketAddress(reinterpret_cast<const sockaddr*>(&in), sizeof in);
    }
  }
  return fail("'" + std::string(text) + "' is not an address: give 127.0.0.1:8080, [::1]:8080 or unix:/path");
}

std::string SocketAddress::host() const {
  char text[INET6_ADDRSTRLEN] = "";
  if (family() == AF_INET) {
    ::inet_ntop(AF_INET, &reinterpret_cast<const sockaddr_in*>(&storage_)->sin_addr, text, sizeof text);
  } else if (family() == AF_INET6) {
    ::inet_ntop(AF_INET6, &reinterpret_cast<const sockaddr_in6*>(&storage_)->sin6_addr, text, sizeof text);
  }
  return text;
}

std::uint16_t SocketAddress::port() const {
  if (family() == AF_INET) return ntohs(reinterpret_cast<const sockaddr_in*>(&storage_)->sin_port);
  if (family() == AF_INET6) return ntohs(reinterpret_cast<const sockaddr_in6*>(&storage_)->sin6_port);
  return 0;
}

std::string_view SocketAddress::ip_bytes() const {
  const auto view = [](const auto& address) {
    return std::string_view(reinterpret_cast<const char*>(&address), sizeof address);
  };
  if (family() == AF_INET) return view(reinterpret_cast<const sockaddr_in*>(&storage_)->sin_addr);
  if (family() == AF_INET6) return view(reinterpret_cast<const sockaddr_in6*>(&storage_)->sin6_addr);
  return {};
}

bool SocketAddress::is_loopback() const {
  const std::string_view bytes = ip_bytes();
  if (bytes.size() == sizeof(in_addr)) return bytes[0] == 127;
  return bytes.size() == sizeof(in6_addr) && std::memcmp(bytes.data(), &in6addr_loopback, bytes.size()) == 0;
}

std::string SocketAddress::path() const {
  constexpr std::size_t kOffset = offsetof(sockaddr_un, sun_path);
  if (!is_unix() || length_ <= kOffset) return "";
  std::string path(reinterpret_cast<const sockaddr_un*>(&storage_)->sun_path, length_ - kOffset);
  if (path[0] == '\0') {
    path[0] = '@';
  } else if (const std::size_t end = path.find('\0'); end != std::string::npos) {
    path.resize(end);
  }
  return path;
}

std::string SocketAddress::to_string() const {
  switch (family()) {
    case AF_UNIX:
      return "unix:" + path();
    case AF_INET6: {
      std::string text = "[";
      text.append(host()).append("]:").append(std::to_string(port()));
      return text;
    }
    case AF_INET:
      return host() + ":" + std::to_string(port());
    default:
      return "-";
  }
}

bool SocketAddress::operator==(const SocketAddress& other) const {
  return length_ == other.length_ && std::memcmp(&storage_, &other.storage_, length_) == 0;
}

Result<SocketAddress> local_address(int fd) {
  sockaddr_storage storage{};
  socklen_t length = sizeof storage;
  if (::getsockname(fd, reinterpret_cast<sockaddr*>(&storage), &length) != 0)
    return fail_errno("getsockname");
  return SocketAddress(reinterpret_cast<sockaddr*>(&storage), length);
}

Result<SocketAddress> peer_address(int fd) {
  sockaddr_storage storage{};
  socklen_t length = sizeof storage;
  if (::getpeername(fd, reinterpret_cast<sockaddr*>(&storage), &length) != 0)
    return fail_errno("getpeername");
  return SocketAddress(reinterpret_cast<sockaddr*>(&storage), length);
}

// Seconds. Clients that vanished without a word, and NATs that forgot them, are noticed some 16 min after
// their last byte.
constexpr int kKeepIdle = 300;

Result<Descriptor> listen_on(const SocketAddress& address, int backlog) {
  const std::string what = "cannot listen on " + address.to_string();
  Descriptor socket(::socket(address.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket) return fail_errno(what);
  const int on = 1;
  if (address.is_unix()) {
    const std::string path = address.path();
    struct stat info {};
    if (!path.starts_with('@') && ::lstat(path.c_str(), &info) == 0) {
      if (!S_ISSOCK(info.st_mode)) return fail(what + ": the file exists and is not a socket", EEXIST);
      if (!unix_socket_is_stale(address)) {
        errno = EADDRINUSE;
        return bind_failed(address, what);
      }
      ::unlink(path.c_str());
    }
  } else {
    ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    ::setsockopt(socket.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    ::setsockopt(socket.get(), SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    ::setsockopt(socket.get(), IPPROTO_TCP, TCP_KEEPIDLE, &kKeepIdle, sizeof kKeepIdle);
    if (address.family() == AF_INET6) ::setsockopt(socket.get(), IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
  }
  if (::bind(socket.get(), address.get(), address.length()) != 0) return bind_failed(address, what);
  if (::listen(socket.get(), backlog) != 0) return bind_failed(address, what);
  return socket;
}

}  // namespace relayd
