#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include <compare>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "proxy/base/descriptor.h"
#include "proxy/base/error.h"

namespace relayd {

// A numeric IPv4, IPv6 or Unix socket address; a plain value.
class SocketAddress {
 public:
  SocketAddress() = default;
  // Copies `length` bytes, at most sizeof(sockaddr_storage).
  SocketAddress(const sockaddr* address, socklen_t length);

  // "127.0.0.1:80", "[::1]:80", "unix:/path", "unix:@abstract". A port is required, 0 is allowed; names are
  // not resolved.
  static Result<SocketAddress> parse(std::string_view text);
  static Result<SocketAddress> unix_path(std::string_view path);
  static SocketAddress loopback(std::uint16_t port);
  // From the 4 (IPv4) or 16 (IPv6) bytes of an address in network order; no other length is allowed.
  static SocketAddress from_ip_bytes(std::string_view bytes, std::uint16_t port);

  // As parse() reads it.
  std::string to_string() const;

  int family() const { return storage_.ss_family; }
  bool is_unix() const { return family() == AF_UNIX; }
  bool is_loopback() const;    // 127.0.0.0/8 or ::1
  std::uint16_t port() const;  // 0 for Unix sockets
  std::string host() const;    // without brackets; empty for Unix sockets
  // The address alone in network order: 4 bytes (IPv4), 16 (IPv6), or none. Valid as long as this object.
  std::string_view ip_bytes() const;
  std::string path() const;  // Unix sockets only; "@name" where abstract
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&storage_); }
  socklen_t length() const { return length_; }
  bool operator==(const SocketAddress& other) const;

 private:
  sockaddr_storage storage_{};
  socklen_t length_ = 0;
};

// The local or remote address of a socket. Errors carry errno.
Result<SocketAddress> local_address(int fd);
Result<SocketAddress> peer_address(int fd);

// A non-blocking, close-on-exec listening socket. TCP: SO_REUSEADDR; TCP_NODELAY and keepalive
// probes after 5 min of silence, so that peers that have vanished are noticed (both inherited by accepted
// sockets, tcp(7)); IPv6 only for IPv6 addresses. A stale Unix socket file, which nobody listens on, is
// replaced; a live one is an error. `backlog` is cut by net.core.somaxconn.
Result<Descriptor> listen_on(const SocketAddress& address, int backlog);

}  // namespace relayd
