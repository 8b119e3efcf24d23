#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "proxy/net/worker.h"

// How connections end: linger, reset, timeouts, close.
namespace relayd::net {
namespace {

// After the end of its response a client may go on sending for so long, before it is closed on …
constexpr Tick kLingerLimit = to_ticks(std::chrono::seconds(30));
// … but only for so long where its request was whole (as long as nginx's lingering_timeout) …
constexpr Tick kQuietLimit = to_ticks(std::chrono::seconds(5));
// … or where others wait for its place, or its service ends.
constexpr Tick kQuietForOthers = to_ticks(std::chrono::seconds(1));
// Among so many of those who linger one is looked for that may go.
constexpr std::size_t kLingeringLookedAt = 64;
// What is still on its way may stand still for so long before the reset overtakes it.
constexpr Tick kResetLimit = to_ticks(std::chrono::seconds(30));
// An idle connection is looked at so often in its timeout: it is closed late by at most that part.
constexpr Tick kIdleLooks = 16;
// Connections that are put elsewhere in their list in one tick, after a reload with another idle_timeout.
constexpr Index kRelistSlice = 1000;

// Bytes that the peer's kernel has not acknowledged yet.
std::uint32_t still_leaving(int fd) {
  int bytes = 0;
  return ::ioctl(fd, SIOCOUTQ, &bytes) == 0 ? static_cast<std::uint32_t>(bytes) : 0;
}

void close_with_reset(int fd) {
  const linger now{.l_onoff = 1, .l_linger = 0};
  ::setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
  ::close(fd);
}

Tick idle_period(const ServiceState& service) {
  return std::max<Tick>(1, service.settings.idle_timeout / kIdleLooks);
}

}  // namespace

void Worker::list_relaying(ServiceState& service, Index index) {
  slab_[index].due = now_ + idle_period(service);
  service.relaying.push_back(slab_, index);
  if (service.settings.idle_timeout != 0) want_tick();
}

void Worker::list_idle(ServiceState& service, Index index) {
  slab_[index].due = now_ + idle_period(service);
  service.idle.push_back(slab_, index);
  if (service.settings.idle_timeout != 0) want_tick();
}

// The list of those in this state; null where they are in none.
IndexList* Worker::list_of(ServiceState& service, State state) {
  switch (state) {
    case State::kGreeting:
      return &service.greeting;
    case State::kIdle:
      return &service.idle;
    case State::kGuessing:
      return &service.guessing;
    case State::kReading:
      return &service.reading;
    case State::kHeld:
      return &service.held;
    case State::kConnecting:
      return &service.connecting;
    case State::kRelaying:
      return &service.relaying;
    case State::kLingering:
    case State::kResetting:
      return &service.ending;
    case State::kFree:
    case State::kClosed:
      break;
  }
  return nullptr;
}

// Afterwards it is in no list, and in no state until it is put into another one.
void Worker::unlist(ServiceState& service, Index index) {
  const State state = slab_[index].state;
  IndexList* const list = list_of(service, state);
  if (list == nullptr) return;
  if (state == State::kHeld) {
    leave_hold(service, index);
  } else {
    list->remove(slab_, index);
  }
  slab_[index].state = State::kFree;
}

// The backend's process has ended. Its last bytes may still be on their way; after them a client that goes on
// holding its half of the connection holds it against nobody.
void Worker::end_behind(Connection& connection) {
  if (connection.state != State::kRelaying || connection.flow[kBackend] != Flow::kShut) return;
  connection.side[kBackend] |= kFailed;
}

// The backend has said all it had to say and takes nothing more. Closing now, with the client's bytes unread,
// would make the kernel send RST, which may destroy the response on the client's side: read on until the
// client ends.
void Worker::begin_linger(Index index) {
  Connection& connection = slab_[index];
  ServiceState& service = service_of(connection);
  unlist(service, index);
  connection.state = State::kLingering;
  connection.active = now_;
  connection.due = 0;
  service.ending.push_back(slab_, index);
  want_tick();
  leave_backend(service, connection);  // it lingers for the client's sake alone
  relay(index);
}

// All of the response, and its end, has reached the client's kernel, and nothing from it is unread: a close
// resets nothing. What the client may still send would be answered by a reset, though.
bool Worker::has_everything(const Connection& connection) {
  const int client = connection.fd[kClient];
  return connection.flow[kBackend] == Flow::kShut && !has_bytes(client) && still_leaving(client) == 0;
}

// True where a place has become free: somebody who lingered has everything, and owes nothing.
bool Worker::close_quiet(ServiceState& service) {
  for (std::size_t left = std::min(service.ending.size(), kLingeringLookedAt); left > 0; --left) {
    const Index index = service.ending.front();
    const Connection& connection = slab_[index];
    if ((connection.flags & kSaidAll) && reached(now_, connection.active + kQuietForOthers) &&
        has_everything(connection)) {
      close_connection(index);
      return true;
    }
    service.ending.remove(slab_, index);
    service.ending.push_back(slab_, index);  // others are looked at the next time
  }
  return false;
}

// A stop takes no longer for them than it may anyway, but for those who were answered at its very end.
void Worker::finish_ends(ServiceId id, std::function<void()> done) {
  ServiceState* service = find(id);
  if (service == nullptr) {
    done();
    return;
  }
  service->ends_awaited.push_back(std::move(done));
  const Tick soon = now_ + kQuietForOthers;
  const bool has_more = service->stopping && reached(service->give_out_by, soon);
  service->ends_by = has_more ? service->give_out_by : soon;
  want_tick();
  check_ends(*service);
}

void Worker::check_ends(ServiceState& service) {
  if (service.ends_awaited.empty()) return;
  for (Index index = service.ending.front(); index != kNone && !reached(now_, service.ends_by);) {
    const Connection& connection = slab_[index];
    const bool has_read = (connection.flags & kSaidAll) || reached(now_, connection.active + kQuietForOthers);
    if (connection.state != State::kLingering || !has_read || !has_everything(connection)) return;
    index = connection.next;
  }
  stop_awaiting_ends(service);
}

void Worker::stop_awaiting_ends(ServiceState& service) {
  for (const auto& done : std::exchange(service.ends_awaited, {})) done();
}

// One side was reset (kFailed): the other is too, once what was sent to it before has left. A Unix socket has
// no RST and loses nothing by a close: its peer reads what is queued, then the end or ECONNRESET.
void Worker::begin_reset(Index index) {
  Connection& connection = slab_[index];
  ServiceState& service = service_of(connection);
  const unsigned dead = connection.side[kBackend] & kFailed ? kBackend : kClient;
  const unsigned victim = 1 - dead;
  if ((connection.side[victim] & (kIsUnix | kFailed)) || still_leaving(connection.fd[victim]) == 0) {
    close_connection(index, true);
    return;
  }
  unlist(service, index);
  if (dead == kBackend) {
    leave_backend(service, connection);
  } else {
    ::close(std::exchange(connection.fd[kClient], -1));
  }
  relay_.drop_parked(connection, kClient);
  relay_.drop_parked(connection, kBackend);
  connection.state = State::kResetting;
  connection.active = now_;
  connection.due = 0;
  service.ending.push_back(slab_, index);
  want_tick();
}

void Worker::close_connection(Index index, bool reset) {
  Connection& connection = slab_[index];
  ServiceState& service = service_of(connection);
  unlist(service, index);
  for (const unsigned side : {kClient, kBackend}) {
    relay_.drop_parked(connection, side);
    if (connection.fd[side] < 0) continue;
    if (reset) {
      close_with_reset(connection.fd[side]);
    } else {
      ::close(connection.fd[side]);
    }
    connection.fd[side] = -1;
  }
  if (connection.origin != kNone) origins_.drop(connection.origin);
  end_exchange(connection);
  if (connection.flags & kHoldPromised) service.shared->promised.fetch_sub(1, std::memory_order_relaxed);
  connection.state = State::kClosed;
  connection.flags = 0;
  plane_.loads[number_].connections.fetch_sub(1, std::memory_order_relaxed);
  graveyard_.push_back(index);
  unreserve(service, false);
  room_made_ = true;
  leave_backend(service, connection);
}

// True while there is something to time.
bool Worker::tick_service(ServiceState& service) {
  expire_greetings(service);
  expire_held(service);
  expire_reading(service);
  expire_connecting(service);
  expire_idle(service, service.relaying, service.relist);
  expire_idle(service, service.idle, service.relist_idle);
  tick_ending(service);
  if (service.awaits_silent && reached(now_, service.silent_due)) close_idle(service);
  check_given_out(service);
  check_ends(service);
  const bool paced = service.settings.release_rate != 0 && !service.held.empty();
  if (paced || (service.reach != Reach::kOpen && reached(now_, service.retry_at))) release(service);
  return !service.given_out.empty() || !service.ends_awaited.empty() || service.awaits_silent ||
         !service.greeting.empty() || !service.guessing.empty() || !service.reading.empty() ||
         !service.held.empty() || !service.ending.empty() || !service.connecting.empty() ||
         (service.settings.idle_timeout != 0 && (!service.relaying.empty() || !service.idle.empty()));
}

void Worker::expire_connecting(ServiceState& service) {
  // Those that connect again go to the end of the list, with a later time.
  for (std::size_t left = service.connecting.size(); left > 0 && !service.connecting.empty(); --left) {
    const Index index = service.connecting.front();
    if (!reached(now_, slab_[index].due)) return;
    connect_failed(service, index, ETIMEDOUT);
  }
}

void Worker::expire_idle(ServiceState& service, IndexList& list, std::size_t& relist) {
  const Tick timeout = service.settings.idle_timeout;
  if (timeout == 0) return;
  Index relist_in_this_turn = kRelistSlice;
  for (std::size_t left = list.size(); left > 0 && !list.empty(); --left) {
    const Index index = list.front();
    if (relist > 0) {
      if (relist_in_this_turn-- == 0) return;
      --relist;
    } else if (!reached(now_, slab_[index].due)) {
      return;
    }
    Connection& connection = slab_[index];
    const bool awaited =
        connection.exchange != kNone && exchanges_[connection.exchange].stage == Stage::kAwaited;
    // Where relayd itself was kept from working, the next request may have come meanwhile.
    if (!reached(now_, connection.active + timeout) || (awaited && has_bytes(connection.fd[kClient]))) {
      list.remove(slab_, index);
      connection.due = now_ + idle_period(service);
      list.push_back(slab_, index);
    } else if (connection.exchange != kNone && exchanges_[connection.exchange].stage == Stage::kUnanswered) {
      if (exchanges_[connection.exchange].request.done()) {
        answer_http(service, index, 504, "the app has not answered in time");
      } else {
        answer_http(service, index, 408, "the request has not come whole in time");
      }
    } else {
      close_connection(index, looks_whole(connection));
    }
  }
}

// Whether a clean end would hide that something is missing: a response that only the end of the connection
// ends, or a reset that has not been passed on yet.
bool Worker::looks_whole(const Connection& connection) {
  if (connection.state == State::kResetting) return true;
  if (connection.exchange == kNone) return false;
  const Exchange& exchange = exchanges_[connection.exchange];
  return exchange.stage == Stage::kAnswering && exchange.response.may_end() && !exchange.response.done();
}

void Worker::tick_ending(ServiceState& service) {
  for (Index index = service.ending.front(); index != kNone;) {
    Connection& connection = slab_[index];
    const Index next = connection.next;
    const std::uint32_t left = still_leaving(connection.fd[connection.fd[kClient] >= 0 ? kClient : kBackend]);
    if (left != connection.due) {
      connection.due = left;
      connection.active = now_;
    }
    if (connection.state == State::kResetting) {
      if (left == 0 || reached(now_, connection.active + kResetLimit)) close_connection(index, true);
    } else if (reached(now_, connection.active + kLingerLimit) ||
               ((connection.flags & kSaidAll) && reached(now_, connection.active + kQuietLimit) &&
                has_everything(connection))) {
      close_connection(index);
    }
    index = next;
  }
}

}  // namespace relayd::net
