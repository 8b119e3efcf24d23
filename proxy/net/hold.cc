#include <sys/epoll.h>
#include <sys/ioctl.h>

#include <algorithm>

#include "proxy/net/worker.h"

// Clients that wait for an instance, in order of arrival, and their release.
namespace relayd::net {
namespace {

// Clients released in one turn, so that a long queue does not stall those that are being served.
constexpr int kReleaseSlice = 64;
// Until a full queue of a Unix socket is tried again, should none of its connections end before.
constexpr Tick kBacklogPause = to_ticks(std::chrono::milliseconds(50));

}  // namespace

// Whoever came earlier goes first, but where those who wait are let go at a given pace.
bool Worker::must_wait(const ServiceState& service) const {
  return service.route.empty() || (!service.held.empty() && service.settings.release_rate == 0);
}

// `reserved`: its place is counted already.
void Worker::hold(ServiceState& service, Index index, bool reserved) {
  Connection& connection = slab_[index];
  connection.state = State::kHeld;
  connection.active = now_;
  if (!reserved) service.shared->held.fetch_add(1, std::memory_order_relaxed);
  if (!(connection.flags & kWaited)) {
    connection.flags |= kWaited;
    connection.held_since = now_;
    add(service.counters->held_total, 1);
    queue_up(service, index);
  } else {
    return_to_hold(service, index);
  }
  want_tick();
  if (!watch(index, kClient)) {
    close_connection(index);
  } else if (service.closing) {
    send_away(service, index);
  }
}

// Who waits goes in order of arrival; a kept HTTP client arrives with each of its requests anew.
bool Worker::arrived_before(Index one, Index other) {
  const auto is_kept = [this](const Connection& connection) {
    return connection.exchange != kNone && exchanges_[connection.exchange].generation != 0;
  };
  const Connection& a = slab_[one];
  const Connection& b = slab_[other];
  const Tick first = is_kept(a) ? a.held_since : a.opened;
  const Tick second = is_kept(b) ? b.held_since : b.opened;
  if (first != second) return reached(second, first);
  return a.id < b.id && !is_kept(a) && !is_kept(b);
}

// Nearly always the last one; not where a connect has been tried first.
void Worker::queue_up(ServiceState& service, Index index) {
  Index after = service.held.back();
  while (after != kNone && arrived_before(index, after)) after = slab_[after].previous;
  service.held.insert_after(slab_, after, index);
}

// Who comes back from a failed connect takes its former place. They come back nearly in order, so begin where
// the last of them went.
void Worker::return_to_hold(ServiceState& service, Index index) {
  const Index hint = service.last_returned;
  Index after = hint != kNone && arrived_before(hint, index) ? hint : kNone;
  Index next = after == kNone ? service.held.front() : slab_[after].next;
  while (next != kNone && arrived_before(next, index)) {
    after = next;
    next = slab_[next].next;
  }
  service.held.insert_after(slab_, after, index);
  service.last_returned = index;
}

void Worker::hold_again(ServiceState& service, Index index, Reach reach) {
  slab_[index].tried = 0;
  slab_[index].walked = 0;
  if (!service.route.empty()) {
    service.reach = reach;
    service.retry_at = now_ + (reach == Reach::kBusy ? kBacklogPause : kRetryPause);
  }
  hold(service, index, false);
}

void Worker::leave_hold(ServiceState& service, Index index) {
  if (service.last_returned == index) service.last_returned = kNone;
  service.held.remove(slab_, index);
  service.shared->held.fetch_sub(1, std::memory_order_relaxed);
  room_made_ = true;
}

// A client that has only stopped sending may await its answer; one that is gone is forgotten. A Unix client
// that closed after it had written is like a TCP client that did so: what it wrote is delivered.
void Worker::on_held_event(Index index, std::uint32_t events) {
  const Connection& connection = slab_[index];
  int bytes = 0;
  const bool gone =
      (events & EPOLLHUP) && !(::ioctl(connection.fd[kClient], FIONREAD, &bytes) == 0 && bytes > 0);
  if ((events & EPOLLERR) || (gone && connection.parked[kClient] == kNone)) close_connection(index);
}

void Worker::queue_release(ServiceState& service) {
  if (service.release_queued || service.held.empty()) return;
  service.release_queued = true;
  releasing_.push_back(service.id);
}

void Worker::release(ServiceState& service) {
  for (int i = 0; i < kReleaseSlice && !service.held.empty() && !service.route.empty(); ++i) {
    const bool probe = service.reach != Reach::kOpen;
    // In both cases the tick comes back to those who are left.
    if (probe && !reached(now_, service.retry_at)) return;
    if (!may_release(service)) return;
    if (probe) service.retry_at = now_ + kRetryPause;
    const Index index = service.held.front();
    unlist(service, index);
    released_ = index;
    start(service, index);
    released_ = kNone;
    if (probe) return;
  }
  if (!service.route.empty()) queue_release(service);
}

// Takes the next place in the pace of hold.release_rate, which all workers keep together: a place every so
// many ns; those of the time between two ticks may be taken at once.
bool Worker::may_release(const ServiceState& service) const {
  using std::chrono::nanoseconds;
  if (service.settings.release_rate == 0) return true;
  const nanoseconds now = time_.time_since_epoch();
  const nanoseconds apart = nanoseconds(std::chrono::seconds(1)) / service.settings.release_rate;
  std::atomic<std::int64_t>& next = service.shared->next_release;
  std::int64_t due = next.load(std::memory_order_relaxed);
  while (due <= now.count()) {
    const std::int64_t from = std::max(due, (now - nanoseconds(kTickInterval)).count());
    if (next.compare_exchange_weak(due, from + apart.count(), std::memory_order_relaxed)) return true;
  }
  return false;
}

// Has waited for longer than hold.timeout.
void Worker::send_away(ServiceState& service, Index index) {
  if (!speaks_http(service, slab_[index])) {
    close_connection(index);
  } else if (service.route.empty()) {
    answer_http(service, index, 503, "no instance of the app is ready; try again");
  } else {
    answer_http(service, index, 502, "no instance of the app could be connected");
  }
}

// While they are only kept back by the pace, nobody is sent away.
void Worker::expire_held(ServiceState& service) {
  if (service.settings.hold_timeout == 0) return;
  for (Index index = service.held.front(); index != kNone;) {
    const Index next = slab_[index].next;
    if (reached(now_, slab_[index].held_since + service.settings.hold_timeout)) {
      if (service.settings.release_rate != 0 && !service.route.empty() && service.reach == Reach::kOpen) {
        unlist(service, index);
        start(service, index);
      } else {
        add(service.counters->hold_timeouts, 1);
        send_away(service, index);
      }
    }
    index = next;
  }
}

}  // namespace relayd::net
