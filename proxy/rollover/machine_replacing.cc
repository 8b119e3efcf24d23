// A phased rollover with a surge: instances of the new generation take over from those of the old one, some
// at a time, and back again where that fails.
#include <algorithm>

#include "proxy/rollover/machine_steps.h"

namespace relayd::rollover {
namespace {

template <typename Predicate>
unsigned count(const Generation& g, Predicate predicate) {
  return static_cast<unsigned>(std::ranges::count_if(g.instances, predicate));
}

unsigned ready(const Generation& g) {
  return count(g, [](const Instance& i) { return i.state == InstanceState::kReady; });
}

// Wanted ones that do not run yet.
unsigned on_the_way(const Generation& g) {
  unsigned there = 0;
  for (std::size_t i = 0; i < g.instances.size() && i < g.launch.instances; ++i) {
    const InstanceState state = g.instances[i].state;
    there += state == InstanceState::kReady || state == InstanceState::kUnhealthy ? 1 : 0;
  }
  return g.launch.instances - there;
}

// The least number of instances, from the first one on, among which so many are ready: those of a generation
// that is withdrawn may have gone in between, and are not started again.
unsigned first_with_ready(const Generation& g, unsigned wanted) {
  std::size_t n = 0;
  for (; n < g.instances.size() && wanted > 0; ++n)
    wanted -= g.instances[n].state == InstanceState::kReady ? 1 : 0;
  return static_cast<unsigned>(n);
}

bool is_whole(const Generation& g) { return g.launch.instances == g.whole && on_the_way(g) == 0; }

}  // namespace

// Those that have a process or will have one again, of all generations; but for killed ones that hang in the
// kernel, of which nobody knows whether they ever end.
unsigned Step::alive() const {
  unsigned sum = 0;
  for (const Generation& g : s_.generations) {
    sum += count(g, [this](const Instance& i) {
      const bool hangs = i.state == InstanceState::kKilled && now_ - i.since >= kKilledPatience;
      return i.state != InstanceState::kGone && !hangs;
    });
  }
  return sum;
}

// Of so many; at least one.
unsigned Step::surge_of(unsigned instances) const {
  const config::Amount& surge = s_.policy.surge;
  const unsigned long long share = static_cast<unsigned long long>(instances) * surge.value;
  return std::max(1U, surge.percent ? static_cast<unsigned>((share + 99) / 100) : surge.value);
}

// One move; false where there is none.
bool Step::replace_some() {
  Generation& old = *s_.serving();
  Generation& next = *s_.starting();
  if (s_.phase == Phase::kReplacing) {
    if (next.launch.instances == next.whole && all_ready(next)) {
      switch_over();
      return true;
    }
    return exchange_some(next, old);
  }
  if (!is_whole(old)) return exchange_some(old, next);
  serve_whole();
  return true;
}

// For each instance of `up` that is ready, one of `down` leaves: never fewer serve than before, and of all
// processes, those of older generations too, there are never more than the surge above what is needed.
bool Step::exchange_some(Generation& up, Generation& down) {
  unsigned kept = down.whole - std::min(down.whole, ready(up));
  if (s_.phase == Phase::kReplacingBack) kept = first_with_ready(down, kept);
  if (kept < down.launch.instances) {
    bring_to(down, kept);
    return true;
  }
  if (up.launch.instances >= up.whole) return false;
  const std::size_t next = up.launch.instances;
  const bool still_there = next < up.instances.size() && up.instances[next].state == InstanceState::kDraining;
  const unsigned surge = surge_of(up.whole);
  const bool room = on_the_way(up) < surge && alive() < std::max(up.whole, down.whole) + surge;
  if (!still_there && !room) return false;
  bring_to(up, up.launch.instances + 1);
  return true;
}

void Step::replace_back(Outcome outcome) {
  Generation& next = *s_.starting();
  s_.phase = Phase::kReplacingBack;
  for (std::size_t n = 0; n < next.instances.size(); ++n) {
    if (next.instances[n].state != InstanceState::kStarting) continue;
    const auto i = static_cast<InstanceIndex>(n);
    outcome == Outcome::kAborted ? stop_instance(next, i) : kill_instance(next, i);
  }
}

// An instance of the old generation does not start any more either. Whoever has instances that serve gets the
// serving role, and tries on.
void Step::not_back(const std::string& why) {
  s_.rollover->reason += "\nGeneration " + std::to_string(s_.serving()->number) +
                         ", which was to take over again, does not start either (it is tried again with "
                         "back-off): " +
                         why;
  serve_whole();
}

void Step::serve_whole() {
  end_replacing();
  Generation& serving = *s_.serving();
  bring_to(serving, serving.whole);
  end_rollover();
}

// One of both generations is left with the serving role: the old one, unless only the new one has instances
// that serve.
void Step::end_replacing() {
  Generation& old = *s_.serving();
  Generation& next = *s_.starting();
  if (ready(old) == 0 && ready(next) > 0) {
    next.state = GenerationState::kServing;
    next.was_ready = true;
    s_.last_served = next.number;
    s_.last_launch = next.launch;
    s_.last_launch.instances = next.whole;
    old.state = GenerationState::kDraining;
    s_.phase = Phase::kServing;
    note(Kind::kSwitched, next.number, -1, "from generation " + std::to_string(old.number));
    begin_drain(old);
    return;
  }
  withdraw(next);
  s_.phase = Phase::kServing;
}

// It goes, with the clients that it has.
void Step::withdraw(Generation& g) {
  const bool has_clients = std::ranges::any_of(g.instances, [](const Instance& i) {
    return i.state == InstanceState::kReady || i.state == InstanceState::kUnhealthy ||
           i.state == InstanceState::kDraining;
  });
  if (has_clients) {
    begin_drain(g);
  } else {
    stop_generation(g);
  }
}

}  // namespace relayd::rollover
