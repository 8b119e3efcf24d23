#include "proxy/backend/lookup.h"

#include <ares.h>
#include <netinet/in.h>

#include <algorithm>
#include <map>
#include <optional>

namespace relayd::backend {
namespace {

// c-ares doubles the wait at each try: 2 s and 4 s for one server.
constexpr int kFirstWait = 2000;  // ms
constexpr int kTries = 2;
// Records that must not be kept at all, and those of /etc/hosts, which have no time to live.
constexpr Duration kShortest{1000};
// A container's name gets another address long before the 10 min that Docker's own name server gives it.
constexpr Duration kLongest{30'000};

SocketAddress with_port(const ares_addrinfo_node& node, std::uint16_t port) {
  sockaddr_storage storage{};
  const auto length = std::min<std::size_t>(node.ai_addrlen, sizeof storage);
  std::copy_n(reinterpret_cast<const char*>(node.ai_addr), length, reinterpret_cast<char*>(&storage));
  if (storage.ss_family == AF_INET) {
    reinterpret_cast<sockaddr_in&>(storage).sin_port = htons(port);
  } else {
    reinterpret_cast<sockaddr_in6&>(storage).sin6_port = htons(port);
  }
  return {reinterpret_cast<const sockaddr*>(&storage), static_cast<socklen_t>(length)};
}

// Sorted by their text, so that an answer in another order is not a change.
Resolved resolved_from(const ares_addrinfo& info, std::uint16_t port) {
  std::map<std::string, SocketAddress> sorted;
  int shortest = static_cast<int>(kLongest.count() / 1000);
  for (const ares_addrinfo_node* node = info.nodes; node != nullptr; node = node->ai_next) {
    if (node->ai_family != AF_INET && node->ai_family != AF_INET6) continue;
    const SocketAddress address = with_port(*node, port);
    sorted.emplace(address.to_string(), address);
    shortest = std::min(shortest, node->ai_ttl);
  }
  for (const ares_addrinfo_cname* cname = info.cnames; cname != nullptr; cname = cname->next) {
    shortest = std::min(shortest, cname->ttl);
  }
  Resolved resolved;
  for (const auto& [text, address] : sorted) resolved.addresses.push_back(address);
  resolved.valid = std::clamp(Duration(std::int64_t{1000} * shortest), kShortest, kLongest);
  return resolved;
}

}  // namespace

struct Lookup::Impl {
  Impl(Loop& l, const std::string& h, std::uint16_t p, Done d)
      : loop(l), host(h), port(p), done(std::move(d)), timer(l) {}

  void begin();
  void watch(ares_socket_t fd, bool readable, bool writable);
  void answered(int status, ares_addrinfo* info);
  void on_timer();
  void look_again();
  void finish_soon(Result<Resolved> result);

  Loop& loop;
  const std::string host;
  const std::uint16_t port;
  Done done;
  ares_channel channel = nullptr;
  std::map<ares_socket_t, std::unique_ptr<Poll>> sockets;
  Timer timer;
  std::optional<Result<Resolved>> result;  // told by the timer: c-ares must not be left while it calls back
};

void Lookup::Impl::begin() {
  ares_options options{};
  options.timeout = kFirstWait;
  options.tries = kTries;
  options.sock_state_cb = [](void* self, ares_socket_t fd, int readable, int writable) {
    static_cast<Impl*>(self)->watch(fd, readable != 0, writable != 0);
  };
  options.sock_state_cb_data = this;
  const int mask = ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB;
  if (const int status = ares_init_options(&channel, &options, mask); status != ARES_SUCCESS) {
    channel = nullptr;
    return finish_soon(fail("cannot look up " + host + ": " + ares_strerror(status)));
  }
  ares_addrinfo_hints hints{};
  // Sorting would open sockets towards each address. CARES_HOSTS may name another file than /etc/hosts.
  hints.ai_flags = ARES_AI_NOSORT | ARES_AI_ENVHOSTS;
  hints.ai_family = AF_UNSPEC;
  hints.ai_socktype = SOCK_STREAM;
  ares_getaddrinfo(
      channel, host.c_str(), nullptr, &hints,
      [](void* self, int status, int, ares_addrinfo* info) {
        static_cast<Impl*>(self)->answered(status, info);
      },
      this);
  look_again();
}

void Lookup::Impl::watch(ares_socket_t fd, bool readable, bool writable) {
  if (!readable && !writable) {
    sockets.erase(fd);  // c-ares closes it next
    return;
  }
  const int events = (readable ? UV_READABLE : 0) | (writable ? UV_WRITABLE : 0);
  if (const auto known = sockets.find(fd); known != sockets.end()) return known->second->set_events(events);
  auto poll = Poll::create(loop, fd, events, [this, fd](int fired) {
    // An error is for c-ares to find: it reads and writes in vain.
    const bool in = fired < 0 || (fired & UV_READABLE) != 0;
    const bool out = fired < 0 || (fired & UV_WRITABLE) != 0;
    ares_process_fd(channel, in ? fd : ARES_SOCKET_BAD, out ? fd : ARES_SOCKET_BAD);
    look_again();
  });
  if (poll) sockets.emplace(fd, std::move(*poll));  // without it, the look-up ends by its timeout
}

void Lookup::Impl::answered(int status, ares_addrinfo* info) {
  if (status == ARES_EDESTRUCTION) return;
  if (status != ARES_SUCCESS) {
    return finish_soon(fail("cannot resolve " + host + ": " + ares_strerror(status)));
  }
  Resolved resolved = resolved_from(*info, port);
  ares_freeaddrinfo(info);
  if (resolved.addresses.empty()) return finish_soon(fail("cannot resolve " + host + ": it has no address"));
  finish_soon(std::move(resolved));
}

void Lookup::Impl::finish_soon(Result<Resolved> r) {
  result = std::move(r);
  timer.start(Duration::zero(), [this] { on_timer(); });
}

// The next moment at which c-ares has something to do without being woken by a socket.
void Lookup::Impl::look_again() {
  if (result) return;
  timeval room{};
  timeval most{60, 0};
  const timeval* wait = ares_timeout(channel, &most, &room);
  timer.start(Duration(wait->tv_sec * 1000 + wait->tv_usec / 1000 + 1), [this] { on_timer(); });
}

// Calls back last: `this` may be gone afterwards.
void Lookup::Impl::on_timer() {
  if (!result) {
    ares_process_fd(channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    return look_again();
  }
  const Done call = std::move(done);
  call(std::move(*result));
}

Lookup::Lookup(Loop& loop, const std::string& host, std::uint16_t port, Done done)
    : impl_(std::make_unique<Impl>(loop, host, port, std::move(done))) {
  impl_->begin();
}

Lookup::~Lookup() {
  if (impl_->channel != nullptr) ares_destroy(impl_->channel);
}

}  // namespace relayd::backend
