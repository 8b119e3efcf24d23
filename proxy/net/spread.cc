#include <algorithm>

#include "proxy/net/worker.h"

// The closes at the end of a drain, spread over `close_spread`, so that clients do not come back all at once.
namespace relayd::net {
namespace {

constexpr Index kLookedAt = 4000;  // slots in one tick, so that nobody else waits for the walk

}  // namespace

void Worker::spread_closes(ServiceId id, std::uint32_t generation, Tick over) {
  if (find(id) == nullptr) return;
  spreads_.push_back({.service = id,
                      .generation = generation,
                      .end = now_ + over,
                      .over = over,
                      .first = endpoints_.users(id, generation),
                      .next = 0});
  want_tick();
}

// True while there is one.
bool Worker::tick_spreads() {
  for (Spread& spread : spreads_) spread_some(spread);
  // What is left at the end is cut by the main thread.
  std::erase_if(spreads_, [this](const Spread& spread) {
    return reached(now_, spread.end) || find(spread.service) == nullptr ||
           endpoints_.users(spread.service, spread.generation) == 0;
  });
  return !spreads_.empty();
}

// As many as exceed the share that may be left by now: a few are closed far apart, many close together.
void Worker::spread_some(Spread& spread) {
  const std::size_t left = endpoints_.users(spread.service, spread.generation);
  const auto ahead = static_cast<std::size_t>(std::max(0, static_cast<std::int32_t>(spread.end - now_)));
  // Half of one counts as one: a single connection goes in the middle of the time.
  const std::size_t over = std::max<std::size_t>(1, spread.over);
  const std::size_t may_be_left = (spread.first * ahead * 2 + over) / (over * 2);
  std::size_t quota = left - std::min(left, may_be_left);
  for (Index looked = std::min(kLookedAt, slab_.size()); looked > 0 && quota > 0; --looked) {
    if (spread.next >= slab_.size()) spread.next = 0;
    const Index index = spread.next++;
    const Connection& connection = slab_[index];
    if (connection.state != State::kRelaying || connection.service != spread.service ||
        connection.endpoint == kNone ||
        !is_of(endpoints_[connection.endpoint].endpoint, spread.generation, -1)) {
      continue;
    }
    add(service_of(connection).counters->cut, 1);
    close_connection(index);
    --quota;
  }
}

}  // namespace relayd::net
