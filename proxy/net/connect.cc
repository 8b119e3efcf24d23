#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "proxy/net/worker.h"

// From a client to an instance. Nothing is read from the client before a backend is connected, so that a
// client can be given to another instance, or held, as often as it takes; no failed connect closes it.
namespace relayd::net {
namespace {

constexpr Tick kBacklogPause = to_ticks(std::chrono::milliseconds(50));

int pending_error(int fd) {
  int error = 0;
  socklen_t size = sizeof error;
  return ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 ? error : errno;
}

bool has_bytes(int fd) {
  int bytes = 0;
  return ::ioctl(fd, FIONREAD, &bytes) == 0 && bytes > 0;
}

}  // namespace

// The connection is in no list and has no backend; afterwards it is connecting, relaying, held or closed.
void Worker::connect(ServiceState& service, Index index) {
  Connection& connection = slab_[index];
  if (connection.route_epoch != service.route_epoch) {
    connection.route_epoch = service.route_epoch;
    connection.tried = 0;
    connection.walked = 0;
  }
  Tick pause = kRetryPause;
  for (;;) {
    Index endpoint =
        service.balancer.pick(endpoints_, service.route, service.balance, connection.tried, now_);
    // Positions that share a bit may have been passed over unjustly: before anybody waits, each is tried.
    if (endpoint == kNone && service.route.size() > kTriedBits && connection.walked < service.route.size()) {
      endpoint = service.route[connection.walked++];
    }
    if (endpoint == kNone) break;
    const Attempt outcome = attempt(service, index, endpoint);
    if (outcome == Attempt::kUnderWay) return;
    if (outcome == Attempt::kShortage) break;
    if (outcome == Attempt::kBusy) pause = kBacklogPause;
  }
  hold_again(service, index, pause);
}

Worker::Attempt Worker::attempt(ServiceState& service, Index index, Index endpoint) {
  Connection& connection = slab_[index];
  const SocketAddress address = endpoints_[endpoint].endpoint.address;
  const int fd = ::socket(address.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) {
    report_shortage(
        service,
        "no descriptor or memory to connect to an instance; clients wait: raise LimitNOFILE (ulimit -n)",
        errno);
    return Attempt::kShortage;
  }
  if (!address.is_unix()) {
    const int on = 1;
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    // IP_BIND_ADDRESS_NO_PORT is for those who bind() a source address; connect() alone picks its port by the
    // whole four-tuple anyway.
  }
  const bool at_once = ::connect(fd, address.get(), address.length()) == 0;
  if (!at_once && errno != EINPROGRESS && errno != EINTR) {
    const int error = errno;
    ::close(fd);
    if (error == EADDRNOTAVAIL || error == ENOBUFS || error == ENOMEM) {
      report_shortage(service,
                      "no local port or memory to connect to an instance; clients wait: widen "
                      "net.ipv4.ip_local_port_range, or use 'address: socket'",
                      error);
      return Attempt::kShortage;
    }
    note_failure(service, connection, endpoint, error);
    return error == EAGAIN ? Attempt::kBusy : Attempt::kFailed;
  }
  connection.fd[kBackend] = fd;
  connection.endpoint = endpoint;
  connection.side[kBackend] = 0;
  connection.flow[kBackend] = Flow::kOpen;
  ++connection.attempts;
  endpoints_.take(endpoint);
  connection.state = State::kConnecting;
  connection.due = now_ + service.settings.connect_timeout;
  connection.active = now_;
  service.connecting.push_back(slab_, index);
  if (service.settings.connect_timeout != 0) want_tick();
  if (!(connection.flags & kClientWatched) && !watch(index, kClient)) {
    close_connection(index);
    return Attempt::kUnderWay;
  }
  if (!watch(index, kBackend)) {
    unlist(service, index);
    leave_backend(service, connection);
    return Attempt::kShortage;
  }
  // A Unix socket is connected now. A TCP socket tells by its first event, which on loopback is there
  // already: this turn looks at the set once more, and hears at the same time whether the client has sent
  // anything.
  if (at_once) established(service, index);
  return Attempt::kUnderWay;
}

void Worker::on_connecting_event(Index index, unsigned side, std::uint32_t events) {
  Connection& connection = slab_[index];
  ServiceState& service = service_of(connection);
  if (side == kClient) {
    if (events & EPOLLERR) close_connection(index);  // reset while it waited
    return;
  }
  if (!(events & EPOLLERR)) {
    if (events & (EPOLLOUT | EPOLLIN | EPOLLHUP)) established(service, index);
    return;
  }
  const int error = pending_error(connection.fd[kBackend]);
  if (error == 0) return;
  // Connected and gone again: EPIPE is a backend that ended by itself; else it may have said something first.
  const bool deliberate = error == ECONNRESET && connection.rescues >= kMostRescues;
  if (error == EPIPE || deliberate || has_bytes(connection.fd[kBackend])) {
    connection.side[kBackend] |= kFailed;
    if (error != EPIPE) connection.side[kBackend] |= kWasReset;
    established(service, index);
    return;
  }
  if (error == ECONNRESET) ++connection.rescues;
  connect_failed(service, index, error);
}

void Worker::established(ServiceState& service, Index index) {
  Connection& connection = slab_[index];
  EndpointTable::Entry& entry = endpoints_[connection.endpoint];
  if ((service.probing || entry.has_failed) && connected_to_itself(connection)) {
    connect_failed(service, index, ECONNREFUSED);
    return;
  }
  entry.has_failed = false;
  entry.endpoint.load->connections.fetch_add(1, std::memory_order_relaxed);
  unlist(service, index);
  connection.state = State::kRelaying;
  connection.active = now_;
  connection.side[kBackend] |= kWriteReady;
  list_relaying(service, index);
  if (service.probing) {
    service.probing = false;
    queue_release(service);
  }
  relay(index);
}

// Connecting to a loopback port of the ephemeral range on which nobody listens may pick that very port as its
// own, and TCP then connects the socket to itself: the client would be answered with its own bytes.
bool Worker::connected_to_itself(const Connection& connection) {
  if (endpoints_[connection.endpoint].endpoint.address.is_unix()) return false;
  const auto local = local_address(connection.fd[kBackend]);
  return local && *local == endpoints_[connection.endpoint].endpoint.address;
}

void Worker::connect_failed(ServiceState& service, Index index, int error) {
  Connection& connection = slab_[index];
  note_failure(service, connection, connection.endpoint, error);
  unlist(service, index);
  leave_backend(service, connection);
  connect(service, index);
}

void Worker::note_failure(ServiceState& service, Connection& connection, Index endpoint, int error) {
  EndpointTable::Entry& entry = endpoints_[endpoint];
  entry.has_failed = true;
  entry.failed_at = now_;
  entry.endpoint.load->connect_failures.fetch_add(1, std::memory_order_relaxed);
  add(service.counters->connect_failures, 1);
  const auto named = std::find(service.route.begin(), service.route.end(), endpoint);
  if (named != service.route.end() && connection.route_epoch == service.route_epoch) {
    connection.tried |= tried_bit(static_cast<std::size_t>(named - service.route.begin()));
  }
  const std::uint64_t now = uv_now(loop_.get());
  if (service.refusal_reported_at != 0 && now - service.refusal_reported_at < 1000) return;
  service.refusal_reported_at = now;
  log::info("an instance could not be connected; its clients go to another one, or wait",
            {{"service", service.settings.name},
             {"generation", entry.endpoint.generation},
             {"instance", static_cast<unsigned>(entry.endpoint.instance)},
             {"address", entry.endpoint.address.to_string()},
             {"error", errno_text(error)}});
}

void Worker::leave_backend(ServiceState& service, Connection& connection) {
  if (connection.fd[kBackend] >= 0) {
    ::close(connection.fd[kBackend]);
    connection.fd[kBackend] = -1;
  }
  if (connection.endpoint == kNone) return;
  const Index endpoint = connection.endpoint;
  connection.endpoint = kNone;
  if (endpoints_.leave(endpoint)) check_drains(service);
}

}  // namespace relayd::net
