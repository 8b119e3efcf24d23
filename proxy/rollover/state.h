#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "proxy/base/time.h"
#include "proxy/config/config.h"
#include "proxy/net/route.h"

// What the rollover machine knows of one service: plain data without pointers, clock or I/O, so that it can
// be compared, printed, tested by the million, and written down when relayd replaces itself.
//
//                 launch                      rollover(phased)
//        kIdle ----------> kServing  ------------------------------> kPhasedStart
//                            ^  ^ |    <--- ready: switch, drain old --    |
//                            |  | |    <--- failed, aborted: old serves ---+
//                            |  | |
//                            |  | | rollover(hot): hold, drain all      all gone
//                            |  | | rollover(restart): hold, cut all  (fresh one)
//                            |  | +-----------------------> kEmptying ------------> kHotStart
//                            |  |                            |  ^  |                  |  |
//                            |  +- abort while it drains ----+  |  |                  |  |
//                            |                                  |  | all gone        |  |
//                            +--- ready: switch ----------------|--|-----------------+  |
//                            |                                  +--|- failed, aborted --+
//                            +--- resumed, or kRestoring <---------+ (previous definition)
//
//        pause, from anywhere:   kPausing --all gone--> kPaused     resume or rollover: kEmptying
//        stop, from anywhere:    kStopping --all gone--> kStopped
//
// A generation that crashes while it serves stays in kServing: its instances are started again with back-off,
// and clients are held while none is ready. A first start, a resume and a return to the previous definition
// go the same way: the generation has the serving role from the start, and the route is empty until an
// instance is ready.
namespace relayd::rollover {

using GenerationNumber = std::uint32_t;  // from 1, never reused; 0: none
using InstanceIndex = std::uint16_t;     // from 0

enum class Phase : std::uint8_t {
  kIdle,         // nothing was launched yet
  kServing,      // no rollover; there is a generation in the serving role
  kPhasedStart,  // the new generation starts beside the serving one
  kEmptying,     // clients are held; every generation finishes and stops; then `pending` is started
  kHotStart,     // clients are held; the new generation starts alone
  kRestoring,  // clients are held; a hot or regular rollover failed and the previous definition starts again
  kPausing,    // clients are held; every generation finishes and stops
  kPaused,     // clients are held; nothing runs
  kStopping,   // for good
  kStopped,
};
const char* to_string(Phase phase);

enum class GenerationState : std::uint8_t {
  kStarting,  // not ready; no client ever reached it
  kServing,   // has the serving role: its ready instances are the route
  kDraining,  // no new clients; `due`: what is left is cut
  kStopping,  // its processes have been told to end
};
const char* to_string(GenerationState state);

enum class InstanceState : std::uint8_t {
  kWaiting,   // crashed; `due`: started again
  kStarting,  // `due` (serving role only): killed for not getting ready
  kReady,
  kUnhealthy,  // runs, but its checks fail: not in the route
  kDraining,   // one too many after `scale`; `due`: what is left is cut
  kStopping,   // got stop_signal; `due`: KILL
  kKilled,     // got KILL; `due`: said again, for a process that hangs in the kernel
  kGone,       // no process
};
const char* to_string(InstanceState state);

struct Instance {
  InstanceState state = InstanceState::kGone;
  Deadline due;
  TimePoint since{};      // when `state` began
  Duration next_delay{};  // before the next restart
  unsigned restarts = 0;
  std::uint64_t drain = 0;  // token of the drain under way; 0: none
  // kDraining, where graceful_timeout and tunnel_timeout differ: the sooner of both and what it is for.
  Deadline sooner_due;
  net::ConnectionKind sooner_kind = net::ConnectionKind::kAll;
  bool operator==(const Instance&) const = default;
};

// What a generation's definition says to the machine.
struct Launch {
  unsigned instances = 1;
  Duration ready_timeout{};
  Duration kill_timeout{};
  config::RestartDelay restart_delay;
  config::StopWhen stop = config::StopWhen::kAfterDrain;
  // Its processes accept and own their clients' connections (handoff), with kAtOnce: nobody but they can
  // finish or close them. So it is drained when they have ended, and cut by KILL.
  bool owns_clients = false;
  bool operator==(const Launch&) const = default;
};

struct Generation {
  GenerationNumber number = 0;
  GenerationState state = GenerationState::kStarting;
  Launch launch;  // launch.instances: how many are wanted now
  TimePoint began{};
  Deadline due;  // kStarting: ready_timeout; kDraining: the later of graceful_timeout and tunnel_timeout
  Deadline spread_due;  // kDraining: when the closes of close_spread begin that end at `due`
  // kDraining, where graceful_timeout and tunnel_timeout differ: the sooner of both, what it is for, and when
  // the closes begin that end at it; `due` is the later, and for the other kind.
  Deadline sooner_due;
  Deadline sooner_spread_due;
  net::ConnectionKind sooner_kind = net::ConnectionKind::kAll;
  bool was_ready = false;   // all its instances have been ready once
  std::uint64_t drain = 0;  // token of the drain under way; 0: none
  std::vector<Instance> instances;
  bool operator==(const Generation&) const = default;
};

// From the service's newest configuration.
struct Policy {
  Duration graceful_timeout{};
  unsigned max_old_generations = 2;
  Duration close_spread{};
  Duration tunnel_timeout{};
  bool operator==(const Policy&) const = default;
};

enum class Outcome : std::uint8_t { kDone, kFailed, kAborted };
const char* to_string(Outcome outcome);

struct RolloverInProgress {
  config::Mode mode = config::Mode::kPhased;
  GenerationNumber from = 0;
  bool from_paused = false;  // an abort goes back to the pause
  GenerationNumber to = 0;   // 0 until it is created
  TimePoint began{};
  Outcome outcome = Outcome::kDone;  // what it will have been; settled by a failure or an abort
  std::string reason;                // of the failure
  bool operator==(const RolloverInProgress&) const = default;
};

// What starts when kEmptying is over.
struct Pending {
  GenerationNumber copy_of = 0;  // whose definition; 0: the new one that the rollover brought
  Launch launch;
  bool operator==(const Pending&) const = default;
};

enum class Accepting : std::uint8_t { kYes, kStopping, kNo };

struct RouteEntry {
  GenerationNumber generation = 0;
  InstanceIndex instance = 0;
  bool operator==(const RouteEntry&) const = default;
};

struct State {
  Phase phase = Phase::kIdle;
  Accepting accepting = Accepting::kYes;
  Policy policy;
  std::vector<Generation> generations;  // oldest first; gone ones are taken out
  GenerationNumber last_number = 0;
  GenerationNumber last_served = 0;  // the definition to come back to
  Launch last_launch;                // of last_served
  std::optional<RolloverInProgress> rollover;
  std::optional<Pending> pending;  // kEmptying only
  bool again = false;              // a signal asked for a rollover while one was in progress
  Deadline stop_by;                // a graceful stop waits for a generation to serve the held clients
  std::vector<RouteEntry> route;   // as last given out; empty: clients are held
  std::uint64_t last_drain = 0;
  bool operator==(const State&) const = default;

  const Generation* find(GenerationNumber number) const;
  Generation* find(GenerationNumber number);
  const Generation* serving() const;
  Generation* serving();
  const Generation* starting() const;
  Generation* starting();
};

// True where a process may exist.
bool has_process(InstanceState state);

}  // namespace relayd::rollover
