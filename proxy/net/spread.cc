#include <algorithm>

#include "proxy/net/worker.h"

// The closes at the end of a drain, spread over `close_spread`, so that clients do not come back all at once.
// HTTP clients are left out: between two requests they move without a close, and one that is being answered
// keeps its time.
namespace relayd::net {
namespace {

constexpr Index kLookedAt = 4000;  // slots in one tick, so that nobody else waits for the walk

}  // namespace

void Worker::spread_closes(ServiceId id, std::uint32_t generation, ConnectionKind kind, Tick over) {
  if (find(id) == nullptr) return;
  Spread& spread = spreads_.emplace_back();
  spread.service = id;
  spread.generation = generation;
  spread.kind = kind;
  spread.end = now_ + over;
  want_tick();
}

// True while there is one.
bool Worker::tick_spreads() {
  std::erase_if(spreads_, [this](Spread& spread) {
    if (find(spread.service) == nullptr) return true;
    const bool found = spread.looked_at >= slab_.size();
    if (found) {
      close_due(spread);
    } else {
      look_for_targets(spread);
    }
    // What was not found is cut by the main thread.
    return reached(now_, spread.end) || (found && spread.passed == spread.found.size());
  });
  return !spreads_.empty();
}

void Worker::look_for_targets(Spread& spread) {
  const Index until = std::min(slab_.size(), spread.looked_at + kLookedAt);
  for (; spread.looked_at < until; ++spread.looked_at) {
    const Connection& connection = slab_[spread.looked_at];
    if (is_spread(spread, connection)) spread.found.push_back({spread.looked_at, connection.id});
  }
  spread.began = now_;
}

// Evenly over the time; a single one goes in the middle of it.
void Worker::close_due(Spread& spread) {
  const std::size_t all = spread.found.size();
  const std::size_t over = std::max<Tick>(1, spread.end - spread.began);
  const std::size_t passed = now_ - spread.began;
  const std::size_t due = reached(now_, spread.end) ? all : (all * passed * 2 + over) / (over * 2);
  for (; spread.passed < due; ++spread.passed) {
    const auto [index, id] = spread.found[spread.passed];
    const Connection& connection = slab_[index];
    if (connection.id != id || !is_spread(spread, connection)) continue;
    add(service_of(connection).counters->cut, 1);
    close_connection(index);
  }
}

bool Worker::is_spread(const Spread& spread, const Connection& connection) {
  return connection.state == State::kRelaying && connection.service == spread.service &&
         connection.endpoint != kNone && connection.exchange == kNone &&
         is_of(endpoints_[connection.endpoint].endpoint, spread.generation, -1) &&
         is_a(connection, spread.kind);
}

}  // namespace relayd::net
