#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "proxy/net/worker.h"

// From a client to an instance. Until an instance has taken a byte, the client can be given to another one,
// or held, as often as it takes: what was read from it stays parked. No failed connect closes it.
namespace relayd::net {
namespace {

using namespace std::string_view_literals;
constexpr std::string_view kMappedPrefix =
    "\0\0\0\0\0\0\0\0\0\0\xff\xff"sv;  // ::ffff:a.b.c.d (RFC 4291, 2.5.5.2)

int pending_error(int fd) {
  int error = 0;
  socklen_t size = sizeof error;
  return ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) == 0 ? error : errno;
}

}  // namespace

// A client with nothing left to say before: to an instance, or to those who wait. `reserved`: its place among
// them is counted already.
void Worker::place(ServiceState& service, Index index, bool reserved) {
  if (must_wait(service)) {
    hold(service, index, reserved);
    return;
  }
  if (reserved) service.shared->held.fetch_sub(1, std::memory_order_relaxed);
  start(service, index);
}

// The connection is in no list and has no backend; afterwards it is connecting, relaying, held or closed.
void Worker::connect(ServiceState& service, Index index) {
  Connection& connection = slab_[index];
  if (connection.route_epoch != service.route_epoch) {
    connection.route_epoch = service.route_epoch;
    connection.tried = 0;
    connection.walked = 0;
  }
  Reach reach = Reach::kDown;
  for (;;) {
    const Index endpoint = next_endpoint(service, connection, reach);
    if (endpoint == kNone) break;
    const Attempt outcome = attempt(service, index, endpoint);
    if (outcome == Attempt::kUnderWay) {
      relay_.keep_first(connection);
      return;
    }
    if (outcome == Attempt::kBusy) reach = Reach::kBusy;
    if (outcome == Attempt::kShortage) {
      reach = Reach::kDown;
      break;
    }
  }
  relay_.keep_first(connection);
  hold_again(service, index, reach);
}

// `reach`: what the instances tried so far were.
Index Worker::next_endpoint(ServiceState& service, Connection& connection, Reach reach) {
  Index endpoint = service.balancer.pick(endpoints_, service.route, service.balance, connection.tried);
  // Positions that share a bit may have been passed over unjustly: before anybody waits, each is tried.
  if (endpoint == kNone && service.route.size() > kTriedBits && connection.walked < service.route.size()) {
    endpoint = service.route[connection.walked++];
  }
  // Those that have reset it are there for others: it gets to know what they say, which ends after
  // kMostRescues.
  if (endpoint == kNone && connection.rescues > 0 && reach != Reach::kBusy) {
    endpoint = service.balancer.pick(endpoints_, service.route, service.balance, 0);
    if (endpoint != kNone && endpoints_[endpoint].has_failed) endpoint = kNone;
  }
  return endpoint;
}

Worker::Attempt Worker::attempt(ServiceState& service, Index index, Index endpoint) {
  Connection& connection = slab_[index];
  const SocketAddress address = endpoints_[endpoint].endpoint.address;
  const bool told_who = endpoints_[endpoint].endpoint.send_proxy || service.settings.transparent;
  if (told_who && !has_address(connection)) {
    close_connection(index, true);
    return Attempt::kUnderWay;
  }
  const int fd = open_socket(service, connection, address);
  if (fd < 0) return Attempt::kShortage;
  const bool at_once = ::connect(fd, address.get(), address.length()) == 0;
  const bool begun = at_once || errno == EINPROGRESS || errno == EINTR;
  int error = begun ? 0 : errno == ECONNRESET ? ECONNREFUSED : errno;  // a reset would be one that came later
  connection.flags &= static_cast<std::uint8_t>(~kIntroduced);
  if (begun) {
    connection.fd[kBackend] = fd;
    connection.side[kBackend] = address.is_unix() ? kIsUnix | kNoDelay : 0;
    if (at_once) connection.side[kBackend] |= kWriteReady;
    connection.flow[kBackend] = Flow::kOpen;
  }
  // Not where a dead loopback address may have answered itself: see connected_to_itself().
  const bool sure = service.reach == Reach::kOpen && !endpoints_[endpoint].has_failed;
  const bool early = at_once || (begun && sure && address.is_loopback());
  const bool connected =
      early && (try_early(service, connection, endpoints_[endpoint].endpoint, error) || at_once);
  if (error != 0) {
    ::close(fd);
    connection.fd[kBackend] = -1;
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
  connection.endpoint = endpoint;
  ++connection.attempts;
  endpoints_.take(endpoint);
  connection.state = State::kConnecting;
  connection.due = now_ + service.settings.connect_timeout;
  connection.active = now_;
  service.connecting.push_back(slab_, index);
  want_tick();
  if (!watch(index, kClient)) {
    close_connection(index);
    return Attempt::kUnderWay;
  }
  if (!watch(index, kBackend)) {
    if (connection.bytes_in != 0) {  // it has taken some: nobody else can be given the rest
      close_connection(index, true);
      return Attempt::kUnderWay;
    }
    unlist(service, index);
    leave_backend(service, connection);
    return Attempt::kShortage;
  }
  if (connected) established(service, index);
  return Attempt::kUnderWay;
}

// Ready to connect to `address`; negative where there is none, which is reported.
int Worker::open_socket(ServiceState& service, const Connection& connection, const SocketAddress& address) {
  const int fd = ::socket(address.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
  if (fd < 0) {
    report_shortage(
        service,
        "no descriptor or memory to connect to an instance; clients wait: raise LimitNOFILE (ulimit -n)",
        errno);
    return -1;
  }
  // connect() alone picks its port by the whole four-tuple; only who binds a source address needs to ask.
  if (service.settings.transparent && !take_source(service, connection, fd, address.family())) {
    ::close(fd);
    return -1;
  }
  return fd;
}

// Binds the client's own address, with a port of the kernel's choice. A client of another family than the
// instance's is connected from an address of ours.
bool Worker::take_source(ServiceState& service, const Connection& connection, int fd, int family) {
  const auto source = connection.origin != kNone ? Result<SocketAddress>(origins_[connection.origin].source)
                                                 : peer_address(connection.fd[kClient]);
  if (!source) return false;  // the client has gone; its connection will tell
  std::string_view ip = source->ip_bytes();
  if (family == AF_INET && ip.starts_with(kMappedPrefix)) ip.remove_prefix(kMappedPrefix.size());
  if (ip.size() != (family == AF_INET ? sizeof(in_addr) : sizeof(in6_addr))) {
    report_shortage(service,
                    "transparent: a client and the instance are not of one address family; it is connected "
                    "from relayd's own address: listen on IPv4 addresses",
                    0);
    return true;
  }
  const int on = 1;
  const bool v6 = family == AF_INET6;
  const SocketAddress any_port = SocketAddress::from_ip_bytes(ip, 0);
  if (::setsockopt(fd, v6 ? SOL_IPV6 : SOL_IP, v6 ? IPV6_TRANSPARENT : IP_TRANSPARENT, &on, sizeof on) == 0 &&
      ::setsockopt(fd, SOL_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on) == 0 &&
      ::bind(fd, any_port.get(), any_port.length()) == 0) {
    return true;
  }
  report_shortage(service,
                  "transparent: cannot connect from a client's address; clients wait: relayd needs "
                  "CAP_NET_ADMIN",
                  errno);
  return false;
}

// False for a client that has been reset: the kernel has forgotten its address, and what it sent before must
// not pass as somebody else's.
bool Worker::has_address(const Connection& connection) const {
  return connection.origin != kNone || (connection.side[kClient] & kIsUnix) ||
         peer_address(connection.fd[kClient]).has_value();
}

// Sends the PROXY header on a new backend connection; the errno of the send, EAGAIN where it is not connected
// yet. The header is smaller than any send buffer: it is taken whole or not at all. `more`: bytes of the
// client follow at once.
int Worker::introduce(Connection& connection, std::optional<ProxyVersion> version, bool more) {
  if (!version || (connection.flags & kIntroduced)) return 0;
  const std::string header = header_of(connection, *version);
  if (::send(connection.fd[kBackend], header.data(), header.size(), MSG_NOSIGNAL | (more ? MSG_MORE : 0)) <
      0) {
    return errno;
  }
  connection.flags |= kIntroduced;
  return 0;
}

std::string Worker::header_of(const Connection& connection, ProxyVersion version) const {
  if (connection.origin != kNone) {
    const Origin& origin = origins_[connection.origin];
    return encode_proxy_header(version, &origin.source, &origin.destination);
  }
  const auto source = peer_address(connection.fd[kClient]);
  const auto destination = local_address(connection.fd[kClient]);
  return encode_proxy_header(version, source ? &*source : nullptr, destination ? &*destination : nullptr);
}

// True where the instance is there already: it has taken the client's first bytes, or has gone after it was
// connected. `error`: the connect has failed.
bool Worker::try_early(ServiceState& service, Connection& connection, const Endpoint& endpoint, int& error) {
  const std::uint64_t before = connection.bytes_in;
  const bool more = connection.parked[kClient] != kNone || !relay_.first_bytes().empty() ||
                    has_bytes(connection.fd[kClient]);
  int outcome = introduce(connection, endpoint.send_proxy, more);
  // What decides is to be read by decide().
  if (outcome == 0 && (connection.flags & kUndecided)) outcome = EAGAIN;
  if (outcome == 0) {
    outcome = connection.exchange != kNone
                  ? relay_.run_http_early(connection, exchanges_[connection.exchange])
                  : relay_.run_early(connection);
  }
  note_traffic(service, connection, before, connection.bytes_out);
  if (outcome == 0) return true;
  if (outcome == EAGAIN) return false;
  if ((outcome == ECONNRESET || outcome == EPIPE) && died_connected(connection, outcome)) return true;
  error = outcome;
  return false;
}

// A connect that ended with this error had succeeded, and what came after it is to be passed on: EPIPE is a
// backend that ended by itself; another may have said something first, or has reset too often to be asked
// again.
bool Worker::died_connected(Connection& connection, int error) {
  const bool deliberate = error == ECONNRESET && connection.rescues >= kMostRescues;
  if (error != EPIPE && !deliberate && !has_bytes(connection.fd[kBackend])) {
    if (error == ECONNRESET) ++connection.rescues;
    return false;
  }
  connection.side[kBackend] |= kFailed | kReadReady;
  if (error != EPIPE) connection.side[kBackend] |= kWasReset;
  return true;
}

void Worker::on_connecting_event(Index index, unsigned side, std::uint32_t events) {
  Connection& connection = slab_[index];
  ServiceState& service = service_of(connection);
  if (side == kClient) {
    if (events & EPOLLERR) close_connection(index);  // reset while it waited
    return;
  }
  if (!(events & EPOLLERR)) {
    if (!(events & (EPOLLOUT | EPOLLIN | EPOLLHUP))) return;
    connection.side[kBackend] |= kWriteReady;
    established(service, index);
    return;
  }
  const int error = pending_error(connection.fd[kBackend]);
  if (error == 0) return;
  if (died_connected(connection, error)) {
    established(service, index);
  } else {
    connect_failed(service, index, error);
  }
}

void Worker::established(ServiceState& service, Index index) {
  Connection& connection = slab_[index];
  EndpointTable::Entry& entry = endpoints_[connection.endpoint];
  if ((service.reach != Reach::kOpen || entry.has_failed) &&
      connected_to_itself(connection.fd[kBackend], entry.endpoint.address)) {
    connect_failed(service, index, ECONNREFUSED);
    return;
  }
  if (!(connection.side[kBackend] & kFailed)) {
    const bool more = connection.parked[kClient] != kNone;
    const int error = introduce(connection, entry.endpoint.send_proxy, more);
    if (error != 0 && !died_connected(connection, error)) {
      connect_failed(service, index, error);
      return;
    }
  }
  endpoints_.note_success(connection.endpoint);
  if (connection.exchange != kNone)
    exchanges_[connection.exchange].flags &= static_cast<std::uint16_t>(~kReused);
  entry.endpoint.load->connections.fetch_add(1, std::memory_order_relaxed);
  unlist(service, index);
  connection.state = State::kRelaying;
  connection.active = now_;
  list_relaying(service, index);
  if (service.reach != Reach::kOpen) {
    service.reach = Reach::kOpen;
    queue_release(service);
  }
  relay(index);
}

// Connecting to a loopback port of the ephemeral range on which nobody listens may pick that very port as its
// own, and TCP then connects the socket to itself: the client would be answered with its own bytes.
bool Worker::connected_to_itself(int fd, const SocketAddress& address) {
  if (address.is_unix()) return false;
  const auto local = local_address(fd);
  return local && *local == address;
}

void Worker::connect_failed(ServiceState& service, Index index, int error) {
  Connection& connection = slab_[index];
  note_failure(service, connection, connection.endpoint, error);
  unlist(service, index);
  leave_backend(service, connection);
  connect(service, index);
}

// The client tries others first.
void Worker::note_tried(const ServiceState& service, Connection& connection, Index endpoint) {
  if (connection.route_epoch != service.route_epoch) return;
  const auto named = std::find(service.route.begin(), service.route.end(), endpoint);
  if (named != service.route.end()) {
    connection.tried |= tried_bit(static_cast<std::size_t>(named - service.route.begin()));
  }
}

// A reset was meant for this client, and a full queue (EAGAIN of a Unix socket) will have room again: neither
// says that the instance is not there for others.
void Worker::note_failure(ServiceState& service, Connection& connection, Index endpoint, int error) {
  EndpointTable::Entry& entry = endpoints_[endpoint];
  note_tried(service, connection, endpoint);
  if (error == EAGAIN) return;
  if (error != ECONNRESET) {
    endpoints_.note_failure(endpoint, now_);
    want_tick();  // which probes it
    entry.endpoint.load->connect_failures.fetch_add(1, std::memory_order_relaxed);
    add(service.counters->connect_failures, 1);
  }
  if (service.quiet_until && time_ < *service.quiet_until) return;
  service.quiet_until = time_ + std::chrono::seconds(1);
  log::info(error == ECONNRESET
                ? "an instance ended a connection before it had answered; the client goes to another one"
                : "an instance could not be connected; its clients go to another one, or wait",
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
  if (service.reach == Reach::kBusy) {  // whoever took this one may have room for the next
    service.reach = Reach::kOpen;
    queue_release(service);
  }
}

}  // namespace relayd::net
