#include <algorithm>

#include "proxy/net/worker.h"

// Walks over all connections: cuts, moves and closes of what a command names.
namespace relayd::net {
namespace {

// Records looked at in one turn.
constexpr Index kSweepSlice = 1000;

}  // namespace

void Worker::check_drains(ServiceState& service) {
  const auto drained = [&](const ServiceState::Drain& drain) {
    if (endpoints_.has(service.id, drain.generation, drain.instance)) return false;
    drain.done();
    return true;
  };
  std::erase_if(service.drains, drained);
}

void Worker::sweep_some() {
  if (sweeps_.empty()) return;
  Sweep& sweep = sweeps_.front();
  const Index end = std::min(slab_.size(), sweep.next + kSweepSlice);
  for (; sweep.next < end; ++sweep.next) {
    const Connection& connection = slab_[sweep.next];
    if (connection.state == State::kFree || connection.state == State::kClosed) continue;
    if (connection.service == sweep.service) sweep_one(sweep, sweep.next);
  }
  if (sweep.next < slab_.size()) return;
  const auto done = std::move(sweep.done);
  sweeps_.erase(sweeps_.begin());
  if (done) done();
}

void Worker::sweep_one(const Sweep& sweep, Index index) {
  Connection& connection = slab_[index];
  ServiceState& service = service_of(connection);
  const bool there = connection.endpoint != kNone &&
                     is_of(endpoints_[connection.endpoint].endpoint, sweep.generation, sweep.instance);
  switch (sweep.what) {
    case SweepWhat::kHeld:
      if (connection.state == State::kHeld) send_away(service, index);
      return;
    case SweepWhat::kMove:
      // At a stop there is nobody to go to: they stay with their backend until they are idle.
      if (there && !service.stopping) move_on(service, index);
      return;
    case SweepWhat::kIdle:
      close_if_idle(service, index);
      return;
    case SweepWhat::kEnded:
      if (!there || connection.state != State::kRelaying) return;
      connection.flags |= kNobodyBehind;
      relay(index);
      return;
    case SweepWhat::kGeneration:
      if (there && is_a(connection, sweep.kind)) cut_one(service, index);
      return;
    case SweepWhat::kAll:
      close_cut(service, index);
      return;
  }
}

// What has lost nothing yet goes to whoever serves now; what would have to lose its request is told so.
void Worker::cut_one(ServiceState& service, Index index) {
  Connection& connection = slab_[index];
  if (connection.state == State::kConnecting) {
    unlist(service, index);
    leave_backend(service, connection);
    connect(service, index);
    return;
  }
  if ((connection.flags & kUndecided) && !service.stopping) return move_on(service, index);
  if (connection.exchange != kNone) {
    const Stage stage = exchanges_[connection.exchange].stage;
    if (stage == Stage::kAwaited && !service.stopping) return move_on(service, index);
    if (stage == Stage::kUnanswered && send_again(service, index)) return;
    if (stage == Stage::kUnanswered) {  // so that nobody takes the end for leave to send it again
      add(service.counters->cut, 1);
      return answer_http(service, index, 504, "the app was stopped before it had answered");
    }
  }
  close_cut(service, index);
}

void Worker::close_cut(ServiceState& service, Index index) {
  const Connection& connection = slab_[index];
  const bool is_done = connection.state == State::kLingering && has_everything(connection);
  if (connection.state != State::kHeld && !is_done) add(service.counters->cut, 1);
  close_connection(index, looks_whole(connection));
}

void Worker::close_everything() {
  for (ListenerSlot& slot : listeners_) slot.fd = -1;
  for (Index index = 0; index < slab_.size(); ++index) {
    const State state = slab_[index].state;
    if (state != State::kFree && state != State::kClosed) close_connection(index, looks_whole(slab_[index]));
  }
}

}  // namespace relayd::net
