#pragma once

#include <string>
#include <variant>
#include <vector>

#include "proxy/rollover/state.h"

// The rollover machine: step(state, event, now) changes the state and says what to do. Pure: no I/O, no
// clock, no loop. The driver (driver.h) feeds it and carries out the actions, in order.
namespace relayd::rollover {

// ---- Events
// -----------------------------------------------------------------------------------------------------
namespace event {
struct Start {  // first launch of the service
  Policy policy;
  Launch launch;
};
struct Rollover {
  config::Mode mode = config::Mode::kPhased;
  Policy policy;
  Launch launch;
};
struct RolloverLater {};  // a signal asked while may_roll_over() was false: remembered, once
struct Abort {};
struct Pause {};
struct Resume {};
struct Scale {
  unsigned instances = 1;
};
struct Adjust {  // a reload changed what does not need a rollover
  Policy policy;
  Launch launch;  // of it: the time limits and the back-off, for generations that run already too
};
struct Stop {
  bool fast = false;
  bool clients_held = false;  // some are waiting: a graceful stop serves them first if it can
};
struct AcceptingStopped {};
struct InstanceReady {
  GenerationNumber generation = 0;
  InstanceIndex instance = 0;
};
struct InstanceUnhealthy {
  GenerationNumber generation = 0;
  InstanceIndex instance = 0;
  std::string why;
};
struct InstanceHealthy {
  GenerationNumber generation = 0;
  InstanceIndex instance = 0;
};
struct InstanceExited {  // also: could not be started
  GenerationNumber generation = 0;
  InstanceIndex instance = 0;
  std::string why;
};
struct Drained {
  std::uint64_t drain = 0;
};
struct Tick {  // time has passed
  std::string
      why_not_ready;  // what the starting generation last said of itself, for the reason of a ready_timeout
};
}  // namespace event

using Event = std::variant<event::Start, event::Rollover, event::RolloverLater, event::Abort, event::Pause,
                           event::Resume, event::Scale, event::Adjust, event::Stop, event::AcceptingStopped,
                           event::InstanceReady, event::InstanceUnhealthy, event::InstanceHealthy,
                           event::InstanceExited, event::Drained, event::Tick>;

// ---- Actions
// ----------------------------------------------------------------------------------------------------
namespace action {
struct CreateGeneration {  // its definition: the rollover's new one, or that of `copy_of`
  GenerationNumber generation = 0;
  GenerationNumber copy_of = 0;
};
struct StartInstance {
  GenerationNumber generation = 0;
  InstanceIndex instance = 0;
};
struct StopInstance {  // stop_signal to the process
  GenerationNumber generation = 0;
  InstanceIndex instance = 0;
};
struct KillInstance {  // KILL to its group
  GenerationNumber generation = 0;
  InstanceIndex instance = 0;
};
struct SetRoute {  // where new connections go from here on; empty: they are held
  std::vector<RouteEntry> route;
};
struct Drain {  // answer with Drained{drain} when no connection is left; instance -1: the whole generation
  GenerationNumber generation = 0;
  int instance = -1;
  std::uint64_t drain = 0;
};
struct Cut {  // close what is left
  GenerationNumber generation = 0;
  int instance = -1;
  net::ConnectionKind kind = net::ConnectionKind::kAll;
};
struct SpreadCloses {  // close what is left one by one, over this long
  GenerationNumber generation = 0;
  net::ConnectionKind kind = net::ConnectionKind::kAll;
  Duration over{};
};
// Answer with AcceptingStopped, once nobody new comes in and whoever has is given to an instance of the route
// (not waited for where that is empty). It may come once more after the answer, with a route that then
// exists.
struct StopAccepting {};
struct CloseHeld {};
struct RolloverEnded {
  RolloverInProgress rollover;
};
struct WantRollover {};  // the one that a signal asked for earlier
struct LaunchFailed {    // an instance of a generation with the serving role that never was ready
  std::string why;
};
struct Note {  // for people and `events`
  enum class Kind : std::uint8_t {
    kGenerationStarting,
    kGenerationReady,
    kSwitched,
    kHolding,
    kReleased,
    kDraining,
    kDrained,
    kCut,
    kGenerationStopped,
    kRolloverStarted,
    kRolloverFailing,
    kRestoring,
    kInstanceExited,
    kInstanceStopped,
    kInstanceRestarting,
    kInstanceReady,
    kInstanceUnhealthy,
    kInstanceHealthy,
    kInstanceKilled,
    kPaused,
    kResumed,
    kScaled,
  };
  Kind kind{};
  GenerationNumber generation = 0;
  int instance = -1;
  std::string text;
};
struct Stopped {};  // nothing of the service is left
}  // namespace action

using Action =
    std::variant<action::CreateGeneration, action::StartInstance, action::StopInstance, action::KillInstance,
                 action::SetRoute, action::Drain, action::Cut, action::SpreadCloses, action::StopAccepting,
                 action::CloseHeld, action::RolloverEnded, action::WantRollover, action::LaunchFailed,
                 action::Note, action::Stopped>;
using Actions = std::vector<Action>;

// Events that make no sense in the state (a late report about something gone) change nothing.
Actions step(State& state, const Event& event, TimePoint now);

// When to send the next Tick; empty: never.
Deadline next_deadline(const State& state);

// Whether event::Rollover will be taken.
bool may_roll_over(const State& state);

// The rules that hold between any two steps; the first one broken, or empty. For tests and debug builds.
std::string broken_invariant(const State& state);

}  // namespace relayd::rollover
