#include <algorithm>

#include "proxy/rollover/machine.h"

namespace relayd::rollover {
namespace {

std::string check_instance(const Generation& g, const Instance& i) {
  const bool serves_or_starts = g.state == GenerationState::kServing || g.state == GenerationState::kStarting;
  if (i.sooner_due && i.state != InstanceState::kDraining)
    return "a part of an instance is to be cut without a drain";
  switch (i.state) {
    case InstanceState::kWaiting:
      if (g.state != GenerationState::kServing) return "a restart is planned outside the serving role";
      return i.due ? "" : "a restart has no time";
    case InstanceState::kStarting:
      if (!serves_or_starts) return "an instance starts in a generation that is on its way out";
      return i.due || g.due ? "" : "a start has no time limit";
    case InstanceState::kDraining:
      return i.due && i.drain != 0 ? "" : "an instance drains without end";
    case InstanceState::kStopping:
      return i.due || g.state == GenerationState::kDraining ? "" : "a stop has no time limit";
    case InstanceState::kReady:
    case InstanceState::kUnhealthy:
      if (g.launch.owns_clients && g.state == GenerationState::kDraining)
        return "a process that has to finish by itself was not told to";
      return g.state != GenerationState::kStopping
                 ? ""
                 : "an instance of a stopping generation was not told to stop";
    case InstanceState::kKilled:
      return i.due ? "" : "nobody waits for the end of a killed process";
    case InstanceState::kGone:
      return "";
  }
  return "unknown instance state";
}

std::string check_phase(const State& s) {
  const bool serving = s.serving() != nullptr;
  const bool starting = s.starting() != nullptr;
  const bool alone = s.generations.size() == 1;
  switch (s.phase) {
    case Phase::kIdle:
    case Phase::kPaused:
    case Phase::kStopped:
      if (!s.generations.empty()) return "something runs where nothing should";
      break;
    case Phase::kServing:
      if (!serving || starting)
        return "serving needs one generation in the serving role and none that starts";
      break;
    case Phase::kPhasedStart:
      if (!serving || !starting) return "a phased start needs the old and the new generation";
      break;
    case Phase::kEmptying:
      if (serving || starting) return "emptying, but one serves or starts";
      if (s.generations.empty()) return "empty, but nothing was started";
      break;
    case Phase::kHotStart:
      if (!starting || !alone) return "a hot start must be alone";
      break;
    case Phase::kRestoring:
      if (!serving || starting) return "restoring needs the previous definition in the serving role";
      break;
    case Phase::kPausing:
      if (serving || starting) return "pausing, but one serves or starts";
      break;
    case Phase::kStopping:
      if (starting) return "stopping, but one starts";
      break;
  }
  if (s.pending.has_value() != (s.phase == Phase::kEmptying)) return "pending belongs to emptying";
  const bool rolls =
      s.phase == Phase::kPhasedStart || s.phase == Phase::kHotStart || s.phase == Phase::kRestoring;
  if (rolls && !s.rollover) return "a phase of a rollover without a rollover";
  if (s.rollover && !rolls && s.phase != Phase::kEmptying) return "a rollover outside its phases";
  return "";
}

}  // namespace

std::string broken_invariant(const State& s) {
  if (std::string broken = check_phase(s); !broken.empty()) return broken;
  GenerationNumber last = 0;
  std::size_t serving = 0;
  std::size_t starting = 0;
  for (const Generation& g : s.generations) {
    if (g.number <= last || g.number > s.last_number) return "generation numbers do not ascend";
    last = g.number;
    serving += g.state == GenerationState::kServing ? 1 : 0;
    starting += g.state == GenerationState::kStarting ? 1 : 0;
    if (g.state == GenerationState::kStarting && !g.due) return "a starting generation has no time limit";
    if (g.state == GenerationState::kDraining && (!g.due || g.drain == 0)) return "a drain has no end";
    if (g.launch.owns_clients && g.launch.stop != config::StopWhen::kAtOnce)
      return "a drain that only its processes can end does not begin with their stop";
    if (g.sooner_due && g.state != GenerationState::kDraining) return "a part is to be cut without a drain";
    if ((g.spread_due || g.sooner_spread_due) && g.state != GenerationState::kDraining)
      return "closes are spread without a drain";
    for (const Instance& i : g.instances) {
      if (std::string broken = check_instance(g, i); !broken.empty()) {
        return "generation " + std::to_string(g.number) + ": " + broken;
      }
    }
  }
  if (serving > 1 || starting > 1) return "two generations in one role";
  for (const RouteEntry& entry : s.route) {
    const Generation* g = s.find(entry.generation);
    if (g == nullptr || g->state != GenerationState::kServing)
      return "the route names a generation without the role";
    if (entry.instance >= g->instances.size() ||
        g->instances[entry.instance].state != InstanceState::kReady) {
      return "the route names an instance that is not ready";
    }
  }
  return "";
}

}  // namespace relayd::rollover
