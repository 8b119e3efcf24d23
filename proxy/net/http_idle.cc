#include <algorithm>

#include "proxy/net/worker.h"

// HTTP clients between two requests: who they are, who makes room for others, who leaves a generation.
namespace relayd::net {
namespace {

// Who has asked nothing for so long may have to go.
constexpr Tick kLongIdle = to_ticks(std::chrono::seconds(1));
// Clients among whom one is looked for that may go.
constexpr Index kLookedAt = 256;
// Who has connected says something within this: the way there and back, with one segment that gets lost.
constexpr Tick kSilence = to_ticks(std::chrono::seconds(2));
// The same of one that may be no HTTP client at all.
constexpr Tick kLongSilence = to_ticks(std::chrono::seconds(30));

}  // namespace

// Between two requests, with nothing of the next one here. Not before the first one: it is on its way.
bool Worker::is_idle(const Connection& connection) {
  return connection.exchange != kNone && exchanges_[connection.exchange].stage == Stage::kAwaited &&
         exchanges_[connection.exchange].generation != 0 &&
         (connection.state == State::kIdle || connection.state == State::kRelaying) &&
         connection.parked[kClient] == kNone && connection.parked[kBackend] == kNone &&
         !has_bytes(connection.fd[kClient]);
}

// Whether it is one who makes room before anybody has to wait.
bool Worker::may_go(const Connection& connection) {
  if (!reached(now_, connection.active + kLongIdle)) return false;
  if (is_idle(connection)) return true;
  const Tick silence = connection.exchange != kNone ? kSilence : kLongSilence;
  return reached(now_, connection.active + silence) && is_silent(connection);
}

// True where a place has become free: among some of the clients, the one that has asked nothing for the
// longest time has to go before anybody waits in the kernel's queue. Where none of these may, others are
// looked at the next time.
bool Worker::close_idlest(ServiceState& service) {
  Index idlest = kNone;
  for (Index looked = std::min(slab_.size(), kLookedAt); looked > 0; --looked) {
    if (++idle_looked_at_ >= slab_.size()) idle_looked_at_ = 0;
    const Connection& connection = slab_[idle_looked_at_];
    if (connection.state == State::kFree || connection.service != service.id || !may_go(connection)) continue;
    if (idlest == kNone || reached(slab_[idlest].active, connection.active)) idlest = idle_looked_at_;
  }
  if (idlest == kNone) return false;
  close_connection(idlest);
  return true;
}

// It has connected, and not said a word; nor has a server that speaks first.
bool Worker::is_silent(const Connection& connection) {
  const bool unknown = (connection.flags & kUndecided) && connection.state == State::kRelaying;
  const bool unasked = connection.exchange != kNone && connection.state == State::kIdle &&
                       exchanges_[connection.exchange].generation == 0;
  return (unknown || unasked) && connection.bytes_in == 0 && connection.bytes_out == 0 &&
         connection.parked[kClient] == kNone && connection.parked[kBackend] == kNone &&
         !has_bytes(connection.fd[kClient]);
}

// At a stop: closes those who have nothing under way. Who came just now and has said nothing yet is given the
// time to.
void Worker::close_idle(ServiceState& service) {
  service.awaits_silent = true;
  service.found_silent = false;
  service.silent_due = now_ + kSilence;
  want_tick();
  sweeps_.push_back({.service = service.id,
                     .what = SweepWhat::kIdle,
                     .generation = 0,
                     .instance = -1,
                     .next = 0,
                     .done = [this, id = service.id] {
                       if (ServiceState* swept = find(id)) swept->awaits_silent = swept->found_silent;
                     }});
}

void Worker::close_if_idle(ServiceState& service, Index index) {
  const Connection& connection = slab_[index];
  const bool silent = is_silent(connection);
  if (is_idle(connection) || (silent && reached(now_, connection.active + kSilence))) {
    close_connection(index);
  } else if (silent) {
    service.found_silent = true;
  }
}

// A client between two requests, or of whom nothing is known yet, does not stay with what is on its way out.
void Worker::move_on(ServiceState& service, Index index) {
  Connection& connection = slab_[index];
  const bool may_choose = connection.exchange != kNone || (connection.flags & kUndecided);
  if (connection.state == State::kConnecting && may_choose) {  // it has taken nothing yet
    place_again(service, index);
    return;
  }
  if (connection.exchange != kNone) {
    const Exchange& exchange = exchanges_[connection.exchange];
    if (exchange.stage != Stage::kAwaited) return;
    if (connection.state != State::kRelaying && connection.state != State::kReading &&
        connection.state != State::kGuessing) {
      return;
    }
    if ((exchange.flags & kGuessing) && backend_leaves(connection)) {  // it has spoken: this is no HTTP
      become_opaque(service, index);
      return;
    }
    leave_backend(service, connection);
    settle_http(service, index);
    return;
  }
  const bool untouched = connection.bytes_in == 0 && connection.bytes_out == 0 &&
                         connection.parked[kClient] == kNone && connection.parked[kBackend] == kNone;
  if (!(connection.flags & kUndecided) || !untouched || connection.state != State::kRelaying) return;
  // What the instance may have said at this very moment, nobody has read: another one greets the client.
  begin_placing(connection);  // if it has been held before, that is over
  place_again(service, index);
}

}  // namespace relayd::net
