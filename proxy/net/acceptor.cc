#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "proxy/net/worker.h"

// Where clients come in. A listening socket is in the epoll set of every worker. To stop accepting it is
// taken out of the set, and clients wait in the kernel's queue; it is never shut down and nobody is closed
// for want of room.
namespace relayd::net {
namespace {

constexpr unsigned kMostAtOnce = 8;
constexpr unsigned kMostAtOnceLeaving = 64;

bool is_unix_socket(int fd) {
  int domain = 0;
  socklen_t size = sizeof domain;
  return ::getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &size) == 0 && domain == AF_UNIX;
}

// Clients in the kernel's accept queue; for Unix sockets, which do not tell, more than there can be.
std::uint32_t queue_length(int fd, bool is_unix) {
  constexpr std::uint32_t kUnknown = 65536;
  tcp_info info{};
  socklen_t size = sizeof info;
  if (is_unix || ::getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0) return kUnknown;
  return info.tcpi_unacked;  // of a listener: its queue (tcp_get_info() in the kernel)
}

// Where there is no room to ask accept4.
bool somebody_waits(int fd) {
  pollfd listener{.fd = fd, .events = POLLIN, .revents = 0};
  return ::poll(&listener, 1, 0) != 0;
}

}  // namespace

void Worker::add_listener(ServiceState& service, int fd) {
  const auto same = [&](const ListenerSlot& slot) { return slot.fd == fd && slot.service == service.id; };
  if (std::any_of(listeners_.begin(), listeners_.end(), same)) return;
  auto spare =
      std::find_if(listeners_.begin(), listeners_.end(), [](const auto& slot) { return slot.fd < 0; });
  if (spare == listeners_.end()) spare = listeners_.emplace(spare);
  *spare = ListenerSlot{};
  spare->fd = fd;
  spare->service = service.id;
  spare->is_unix = is_unix_socket(fd);
  if (!service.paused) watch_listener(static_cast<Index>(spare - listeners_.begin()), true);
}

void Worker::drop_listeners(ServiceState& service, const std::vector<int>& keep, std::function<void()> done) {
  auto leaving = std::make_shared<Leaving>();
  leaving->done = std::move(done);
  std::vector<Index> slots;
  for (Index i = 0; i < listeners_.size(); ++i) {
    ListenerSlot& slot = listeners_[i];
    if (slot.fd < 0 || slot.service != service.id || slot.leaving) continue;
    if (std::find(keep.begin(), keep.end(), slot.fd) != keep.end()) continue;
    slot.leaving = leaving;
    // Not for ever, however fast new clients come; a few more for those that came since.
    slot.queued = queue_length(slot.fd, slot.is_unix) + kMostAtOnce;
    slot.give_up = now_ + service.settings.graceful_timeout;
    slots.push_back(i);
  }
  leaving->listeners = slots.size();
  if (slots.empty()) {
    leaving->done();
    return;
  }
  want_tick();
  for (const Index i : slots) accept_from(i);
}

void Worker::end_leaving(ListenerSlot& slot) {
  watch_listener(static_cast<Index>(&slot - listeners_.data()), false);
  slot.fd = -1;
  const std::shared_ptr<Leaving> leaving = std::move(slot.leaving);
  slot.leaving = nullptr;
  if (leaving && --leaving->listeners == 0) leaving->done();
}

// An emptied queue tells nothing, so those on their way out are asked. True while there are any.
bool Worker::tick_leaving() {
  bool more = false;
  for (Index i = 0; i < listeners_.size(); ++i) {
    ListenerSlot& slot = listeners_[i];
    if (slot.fd < 0 || !slot.leaving) continue;
    if (!services_[slot.service]->paused) {
      accept_from(i);
    } else if (!somebody_waits(slot.fd)) {
      end_leaving(slot);
    }
    if (slot.fd >= 0 && reached(now_, slot.give_up)) {
      log::warn(
          "a listener was taken away though clients still waited in its queue, for all of graceful_timeout: "
          "raise max_connections or hold.max_connections",
          {{"service", services_[slot.service]->settings.name}});
      end_leaving(slot);
    }
    more = more || slot.fd >= 0;
  }
  return more;
}

void Worker::accept_from(Index index) {
  ListenerSlot& slot = listeners_[index];
  if (slot.fd < 0) return;
  ServiceState* service = find(slot.service);
  if (service == nullptr || service->paused || !accepts_) return;
  // Commands wait for the release: it must end, however fast new clients come. The queue is looked at again
  // after it.
  if (service->release_queued && !commands_.empty()) return;
  // One at first: with nobody else waiting, a second accept4 would only say EAGAIN.
  slot.burst = turns_ == slot.last_turn + 1 ? std::min(slot.burst * 2, kMostAtOnce) : 1;
  const unsigned most = slot.leaving ? kMostAtOnceLeaving : slot.burst;
  for (unsigned i = 0; i < most; ++i) {
    switch (accept_one(*service, slot)) {
      case Accepted::kOne:
        slot.last_turn = turns_;
        if (!slot.leaving || --slot.queued != 0) break;
        end_leaving(slot);
        return;
      case Accepted::kNobody:
        if (slot.leaving) end_leaving(slot);
        return;
      case Accepted::kNoRoom:
        pause(*service);
        return;
    }
  }
}

// The reservation comes first: once accepted, a client is never sent away.
Worker::Accepted Worker::accept_one(ServiceState& service, const ListenerSlot& slot) {
  const bool held = must_wait(service);
  if (!reserve(service, held)) return Accepted::kNoRoom;
  for (;;) {
    const int fd = ::accept4(slot.fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
      admit(service, fd, slot.is_unix, held);
      return Accepted::kOne;
    }
    switch (errno) {
      case EAGAIN:
        unreserve(service, held);
        return Accepted::kNobody;
      case EMFILE:
      case ENFILE:
      case ENOBUFS:
      case ENOMEM:
        report_shortage(service,
                        "no descriptor or memory for a new client, which waits in the kernel's queue: raise "
                        "LimitNOFILE (ulimit -n) or fs.file-max",
                        errno);
        unreserve(service, held);
        return Accepted::kNoRoom;
      case EBADF:
      case EINVAL:
      case ENOTSOCK:
      case EOPNOTSUPP:
        report_shortage(service, "a listener is broken: something shut it down or closed it", errno);
        unreserve(service, held);
        return Accepted::kNoRoom;
      default:
        break;  // that client went away while it waited (accept(2)): the next one
    }
  }
}

bool Worker::reserve(ServiceState& service, bool held) {
  ServiceShared& shared = *service.shared;
  const std::uint32_t most = service.settings.max_connections;
  while (shared.active.fetch_add(1, std::memory_order_relaxed) >= most && most != 0) {
    shared.active.fetch_sub(1, std::memory_order_relaxed);
    if (make_room(service)) continue;
    report_full(service, "limits.max_connections is reached; further clients wait in the kernel's queue");
    return false;
  }
  while (!reserve_descriptors()) {
    if (make_room(service)) continue;
    shared.active.fetch_sub(1, std::memory_order_relaxed);
    report_full(
        service,
        "as many clients as the limit of open files allows; further ones, of every service, wait in the "
        "kernel's queue: raise LimitNOFILE (ulimit -n)");
    return false;
  }
  if (held &&
      shared.held.fetch_add(1, std::memory_order_relaxed) + shared.promised.load(std::memory_order_relaxed) >=
          service.settings.hold_max) {
    unreserve(service, held);
    report_full(service, "hold.max_connections is reached; further clients wait in the kernel's queue");
    return false;
  }
  return true;
}

// Nobody waits in the kernel's queue for the sake of a client that has no business under way.
bool Worker::make_room(ServiceState& service) { return close_quiet(service) || close_idlest(service); }

// At most once a minute of all workers together: it may last.
void Worker::report_full(ServiceState& service, const char* what) {
  using std::chrono::nanoseconds;
  constexpr nanoseconds kApart = std::chrono::minutes(1);
  const std::int64_t now = nanoseconds(time_.time_since_epoch()).count();
  std::int64_t due = service.shared->next_full_report.load(std::memory_order_relaxed);
  if (due > now || !service.shared->next_full_report.compare_exchange_strong(due, now + kApart.count()))
    return;
  log::warn(what, {{"service", service.settings.name}});
}

bool Worker::reserve_descriptors() {
  do {
    const std::uint64_t before =
        plane_.descriptors.fetch_add(kDescriptorsPerClient, std::memory_order_relaxed);
    if (before + kDescriptorsPerClient <= plane_.max_descriptors.load(std::memory_order_relaxed)) return true;
    plane_.descriptors.fetch_sub(kDescriptorsPerClient, std::memory_order_relaxed);
  } while (pipes_.trim());  // spare pipes are the first to go
  return false;
}

void Worker::unreserve(ServiceState& service, bool held) {
  if (held) service.shared->held.fetch_sub(1, std::memory_order_relaxed);
  plane_.descriptors.fetch_sub(kDescriptorsPerClient, std::memory_order_relaxed);
  service.shared->active.fetch_sub(1, std::memory_order_relaxed);
}

void Worker::admit(ServiceState& service, int fd, bool is_unix, bool held) {
  add(service.counters->accepted, 1);
  Worker& taker = less_loaded();
  plane_.loads[taker.number_].connections.fetch_add(1, std::memory_order_relaxed);
  if (&taker == this) {
    take_in(service, fd, is_unix, held);
  } else {
    hand_over(service, fd, is_unix, held, taker);
  }
}

// `held`: its place among those who wait is reserved.
void Worker::take_in(ServiceState& service, int fd, bool is_unix, bool held) {
  const Index index = slab_.allocate();
  Connection& connection = slab_[index];
  connection.id = std::uint64_t{number_} << 48 | ++arrivals_;
  connection.fd[kClient] = fd;
  connection.service = service.id;
  connection.opened = connection.active = now_;
  connection.side[kClient] = kReadReady | kWriteReady | kNoDelay;  // as its listener has it
  if (is_unix) connection.side[kClient] |= kIsUnix;
  if (service.settings.accept_proxy) {
    if (held) {  // it is not one of them yet
      connection.flags |= kHoldPromised;
      service.shared->promised.fetch_add(1, std::memory_order_relaxed);
      service.shared->held.fetch_sub(1, std::memory_order_relaxed);
    }
    greet(service, index);
  } else {
    place(service, index, held);
  }
}

// Whoever is woken accepts, and may be woken again and again: where few clients keep many connections, they
// are spread by hand. Short connections, of which each worker has few at once, stay where they are.
Worker& Worker::less_loaded() {
  constexpr std::uint32_t kSlack = 2;
  if (plane_.workers == 1) return *this;
  const std::uint32_t mine = plane_.loads[number_].connections.load(std::memory_order_relaxed);
  const std::uint64_t all = plane_.descriptors.load(std::memory_order_relaxed) / kDescriptorsPerClient;
  if (mine <= all / plane_.workers + kSlack) return *this;
  unsigned least = number_;
  std::uint32_t load = mine - kSlack;
  for (unsigned i = 0; i < plane_.workers; ++i) {
    const std::uint32_t other = plane_.loads[i].connections.load(std::memory_order_relaxed);
    if (other >= load) continue;
    least = i;
    load = other;
  }
  return *plane_.peers[least];
}

// Its reservations go with it. The main thread's commands that follow from what this worker reports reach the
// other one after the client does.
void Worker::hand_over(ServiceState& service, int fd, bool is_unix, bool held, Worker& to) {
  const auto client = std::make_shared<Descriptor>(fd);
  to.post([client, is_unix, held, id = service.id, shared = service.shared](Worker& worker) {
    ServiceState* there = worker.find(id);
    if (there != nullptr && there->shared == shared && !there->removed) {
      worker.take_in(*there, client->release(), is_unix, held);
      return;
    }
    if (held) shared->held.fetch_sub(1, std::memory_order_relaxed);  // the service has been removed
    worker.plane_.descriptors.fetch_sub(kDescriptorsPerClient, std::memory_order_relaxed);
    worker.plane_.loads[worker.number_].connections.fetch_sub(1, std::memory_order_relaxed);
    shared->active.fetch_sub(1, std::memory_order_relaxed);
  });
}

void Worker::pause(ServiceState& service) {
  if (service.paused) return;
  service.paused = true;
  for (Index i = 0; i < listeners_.size(); ++i) {
    if (listeners_[i].service == service.id) watch_listener(i, false);
  }
  want_tick();
}

void Worker::set_accepting(bool on) {
  accepts_ = on;
  for (Index i = 0; !on && i < listeners_.size(); ++i) watch_listener(i, false);
  if (on && watch_missing()) want_tick();
}

// Those whose place in the epoll set was refused. True while it still is.
bool Worker::watch_missing() {
  bool missing = false;
  for (Index i = 0; i < listeners_.size(); ++i) {
    const ListenerSlot& slot = listeners_[i];
    if (slot.fd < 0 || slot.watched || services_[slot.service]->paused) continue;
    watch_listener(i, true);
    missing = missing || !slot.watched;
  }
  return missing;
}

void Worker::resume_paused() {
  for (const auto& service : services_) {
    if (service == nullptr || !service->paused) continue;
    const bool held = must_wait(*service);
    if (!reserve(*service, held)) continue;
    unreserve(*service, held);
    service->paused = false;
    for (Index i = 0; i < listeners_.size(); ++i) {
      if (listeners_[i].service == service->id) watch_listener(i, true);
    }
  }
}

}  // namespace relayd::net
