#include "proxy/rollover/state.h"

#include <algorithm>

namespace relayd::rollover {
namespace {

template <typename Generations, typename Predicate>
auto* find_if(Generations& generations, Predicate predicate) {
  const auto found = std::ranges::find_if(generations, predicate);
  return found == generations.end() ? nullptr : &*found;
}

}  // namespace

const char* to_string(Phase phase) {
  switch (phase) {
    case Phase::kIdle:
      return "idle";
    case Phase::kServing:
      return "serving";
    case Phase::kPhasedStart:
      return "starting";
    case Phase::kReplacing:
      return "replacing";
    case Phase::kReplacingBack:
      return "replacing-back";
    case Phase::kEmptying:
      return "emptying";
    case Phase::kHotStart:
      return "starting-held";
    case Phase::kRestoring:
      return "restoring";
    case Phase::kPausing:
      return "pausing";
    case Phase::kPaused:
      return "paused";
    case Phase::kStopping:
      return "stopping";
    case Phase::kStopped:
      return "stopped";
  }
  return "?";
}

const char* to_string(GenerationState state) {
  switch (state) {
    case GenerationState::kStarting:
      return "starting";
    case GenerationState::kServing:
      return "serving";
    case GenerationState::kDraining:
      return "draining";
    case GenerationState::kStopping:
      return "stopping";
  }
  return "?";
}

const char* to_string(InstanceState state) {
  switch (state) {
    case InstanceState::kWaiting:
      return "waiting";
    case InstanceState::kStarting:
      return "starting";
    case InstanceState::kReady:
      return "ready";
    case InstanceState::kUnhealthy:
      return "unhealthy";
    case InstanceState::kDraining:
      return "draining";
    case InstanceState::kStopping:
      return "stopping";
    case InstanceState::kKilled:
      return "killed";
    case InstanceState::kGone:
      return "gone";
  }
  return "?";
}

const char* to_string(Outcome outcome) {
  switch (outcome) {
    case Outcome::kDone:
      return "done";
    case Outcome::kFailed:
      return "failed";
    case Outcome::kAborted:
      return "aborted";
  }
  return "?";
}

bool has_process(InstanceState state) {
  return state != InstanceState::kWaiting && state != InstanceState::kGone;
}

const Generation* State::find(GenerationNumber number) const {
  return find_if(generations, [number](const Generation& g) { return g.number == number; });
}
Generation* State::find(GenerationNumber number) {
  return find_if(generations, [number](const Generation& g) { return g.number == number; });
}
const Generation* State::serving() const {
  return find_if(generations, [](const Generation& g) { return g.state == GenerationState::kServing; });
}
Generation* State::serving() {
  return find_if(generations, [](const Generation& g) { return g.state == GenerationState::kServing; });
}
const Generation* State::starting() const {
  return find_if(generations, [](const Generation& g) { return g.state == GenerationState::kStarting; });
}
Generation* State::starting() {
  return find_if(generations, [](const Generation& g) { return g.state == GenerationState::kStarting; });
}

}  // namespace relayd::rollover
