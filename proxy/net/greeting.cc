#include <sys/epoll.h>
#include <sys/socket.h>

#include <cerrno>

#include "proxy/net/worker.h"

// Clients of a service with `proxy_protocol.accept` first say, in a PROXY header, whom they speak for. It is
// looked at where it lies and taken out of the socket when it is whole, so that nothing else is touched.
namespace relayd::net {
namespace {

// A load balancer sends the header with the connection; what takes longer is somebody else.
constexpr Tick kGreetingLimit = to_ticks(std::chrono::seconds(10));

}  // namespace

void Worker::greet(ServiceState& service, Index index) {
  Connection& connection = slab_[index];
  connection.state = State::kGreeting;
  connection.due = now_ + kGreetingLimit;
  service.greeting.push_back(slab_, index);
  want_tick();
  if (!watch(index, kClient)) {
    close_connection(index);
    return;
  }
  read_greeting(service, index);
}

void Worker::on_greeting_event(Index index, std::uint32_t events) {
  if (events & EPOLLERR) {
    close_connection(index);
  } else {
    read_greeting(service_of(slab_[index]), index);
  }
}

void Worker::read_greeting(ServiceState& service, Index index) {
  Connection& connection = slab_[index];
  const int fd = connection.fd[kClient];
  char bytes[kMaxProxyHeader];
  const ssize_t got = ::recv(fd, bytes, sizeof bytes, MSG_PEEK);
  if (got < 0 && (errno == EAGAIN || errno == EINTR)) return;
  if (got <= 0) {  // it went without a word, as a health check of the balancer's may
    close_connection(index);
    return;
  }
  const auto header = parse_proxy_header({bytes, static_cast<std::size_t>(got)});
  if (!header) {
    refuse_greeting(service, index, header.error().message);
  } else if (!*header) {
    if (connection.side[kClient] & kHangup) refuse_greeting(service, index, "it ended within the header");
  } else if (::recv(fd, bytes, (*header)->size, 0) != static_cast<ssize_t>((*header)->size)) {
    close_connection(index);  // what was there to be looked at is not there to be taken: the socket is broken
  } else {
    if (!(*header)->local) connection.origin = origins_.add({*(*header)->source, *(*header)->destination});
    const bool promised = connection.flags & kHoldPromised;
    if (promised) {
      connection.flags &= static_cast<std::uint8_t>(~kHoldPromised);
      service.shared->held.fetch_add(1, std::memory_order_relaxed);
      service.shared->promised.fetch_sub(1, std::memory_order_relaxed);
    }
    unlist(service, index);
    place(service, index, promised);
  }
}

void Worker::refuse_greeting(ServiceState& service, Index index, const std::string& why) {
  add(service.counters->proxy_refused, 1);
  if (!service.quiet_until || time_ >= *service.quiet_until) {
    service.quiet_until = time_ + std::chrono::seconds(1);
    const auto peer = peer_address(slab_[index].fd[kClient]);
    log::warn("a client is closed: " + why,
              {{"service", service.settings.name}, {"client", peer ? peer->to_string() : "unknown"}});
  }
  close_connection(index, true);
}

void Worker::expire_greetings(ServiceState& service) {
  while (!service.greeting.empty() && reached(now_, slab_[service.greeting.front()].due)) {
    refuse_greeting(service, service.greeting.front(),
                    "no PROXY header came within 10 s; whoever connects here must send one "
                    "(proxy_protocol.accept)");
  }
}

}  // namespace relayd::net
