#include "proxy/net/worker.h"

// HTTP clients between two requests: who they are, who makes room for others, who leaves a generation.
namespace relayd::net {
namespace {

// Who has asked nothing for so long may have to go.
constexpr Tick kLongIdle = to_ticks(std::chrono::seconds(1));
// Clients among whom one is looked for that may go.
constexpr int kLookedAt = 64;

}  // namespace

// Between two requests, with nothing of the next one here. Not before the first one: it is on its way.
bool Worker::is_idle(const Connection& connection) {
  return connection.exchange != kNone && exchanges_[connection.exchange].stage == Stage::kAwaited &&
         exchanges_[connection.exchange].generation != 0 &&
         (connection.state == State::kIdle || connection.state == State::kRelaying) &&
         connection.parked[kClient] == kNone && connection.parked[kBackend] == kNone &&
         !has_bytes(connection.fd[kClient]);
}

// True where a place has become free: whoever has asked nothing for the longest time has to go before anybody
// waits in the kernel's queue.
bool Worker::close_idlest(ServiceState& service) {
  Index index = service.idle.front();
  for (int looked = 0; looked < kLookedAt && index != kNone; ++looked, index = slab_[index].next) {
    if (!reached(now_, slab_[index].active + kLongIdle)) return false;
    if (!is_idle(slab_[index])) continue;
    close_connection(index);
    return true;
  }
  return false;
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
  place_again(service, index);
}

}  // namespace relayd::net
