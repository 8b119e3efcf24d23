// The machine against a world of processes and clients that misbehaves at random. Every run is a seed: a
// failure prints it, and RELAYD_SEED replays it. RELAYD_EVENTS sets how many events are played in all.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <random>
#include <set>
#include <utility>

#include "proxy/rollover/machine.h"

namespace relayd::rollover {
namespace {

using std::chrono_literals::operator""ms;
using std::chrono_literals::operator""s;

// Plays relayd's surroundings: starts and ends processes, holds connections, and checks what the machine may
// not do.
class World {
 public:
  explicit World(std::uint64_t seed) : random_(seed) {}

  // Plays `count` random events, then heals the world and lets it come to rest.
  std::string play(int count) {
    send(event::Start{policy(), launch()});
    for (int i = 0; i < count && broken_.empty(); ++i) random_event();
    if (broken_.empty()) come_to_rest();
    return broken_;
  }
  std::uint64_t events() const { return events_; }

 private:
  using Key = std::pair<GenerationNumber, InstanceIndex>;
  struct Process {
    bool ready = false;
    bool told_to_stop = false;
    bool killed = false;
  };

  bool chance(unsigned percent) { return random_() % 100 < percent; }
  Duration any(int from, int to) { return Duration(from + static_cast<int>(random_() % (to - from + 1))); }

  Policy policy() {
    const Duration graceful = any(0, 3000);
    return Policy{
        graceful, 1 + static_cast<unsigned>(random_() % 3), chance(50) ? any(1, 4000) : Duration{},
        chance(50) ? any(0, 4000) : graceful,
        chance(50) ? config::Amount{1 + static_cast<unsigned>(random_() % 2), false} : config::Amount{}};
  }
  Launch launch() {
    Launch l;
    l.instances = 1 + static_cast<unsigned>(random_() % 3);
    l.ready_timeout = any(1, 3000);
    l.kill_timeout = any(0, 1000);
    l.restart_delay = {any(1, 100), any(100, 2000)};
    l.stop = chance(40) ? config::StopWhen::kAtOnce : config::StopWhen::kAfterDrain;
    l.owns_clients = l.stop == config::StopWhen::kAtOnce && chance(50);
    return l;
  }

  void fail(const std::string& what) {
    if (broken_.empty()) broken_ = "event " + std::to_string(events_) + ": " + what;
  }

  void send(const Event& event) {
    ++events_;
    const std::set<Key> protected_ones = untouchable(event);
    const GenerationNumber serving_before = state_.serving() != nullptr ? state_.serving()->number : 0;
    if (std::holds_alternative<event::Rollover>(event) && may_roll_over(state_)) {
      rolling_ = true;
      cause_ = false;
    }
    // Only a process that ended unasked or fails its checks, or time that passed, may fail a rollover.
    if (std::holds_alternative<event::Tick>(event)) cause_ = true;
    if (std::holds_alternative<event::InstanceUnhealthy>(event)) cause_ = true;
    const bool replaced = is_replacing(state_.phase);
    const std::size_t served = state_.route.size();
    const Actions actions = step(state_, event, now_);
    const bool replaces = is_replacing(state_.phase);
    if (replaced && replaces && std::holds_alternative<event::InstanceReady>(event) &&
        state_.route.size() < served) {
      fail("fewer instances serve than before one was replaced");
    }
    const GenerationNumber serving_now = state_.serving() != nullptr ? state_.serving()->number : 0;
    for (const Action& action : actions) {
      std::visit([this](const auto& a) { carry_out(a); }, action);
      if (serving_now == serving_before) check_untouched(action, protected_ones);
    }
    if (route_ != state_.route) fail("the route given out is not the one in the state");
    if (const std::string broken = broken_invariant(state_); !broken.empty()) fail(broken);
    for (const RouteEntry& entry : state_.route) {
      const auto found = processes_.find({entry.generation, entry.instance});
      if (found == processes_.end() || !found->second.ready)
        fail("clients are sent to a process that is not ready");
    }
    for (const Key& key : std::exchange(stillborn_, {})) {
      if (processes_.erase(key) == 0) continue;
      cause_ = true;
      send(event::InstanceExited{key.first, key.second, "exec: No such file or directory"});
    }
    if (want_rollover_) {
      want_rollover_ = false;
      if (!may_roll_over(state_)) fail("a remembered rollover came where none is taken");
      send(event::Rollover{mode(), policy(), launch()});
    }
  }

  // Phased: what serves stays untouched until the new generation is ready, unless the event itself asks for
  // it.
  std::set<Key> untouchable(const Event& event) const {
    std::set<Key> keys;
    if (state_.phase != Phase::kPhasedStart || std::holds_alternative<event::Scale>(event) ||
        std::holds_alternative<event::Pause>(event) || std::holds_alternative<event::Stop>(event)) {
      return keys;
    }
    for (const RouteEntry& entry : state_.route) keys.insert({entry.generation, entry.instance});
    return keys;
  }
  void check_untouched(const Action& action, const std::set<Key>& keys) {
    const auto touches = [&keys](GenerationNumber g, int i) {
      return i >= 0 ? keys.contains({g, static_cast<InstanceIndex>(i)})
                    : !keys.empty() && keys.begin()->first == g;
    };
    const bool touched = std::visit(
        [&touches](const auto& a) {
          using A = std::decay_t<decltype(a)>;
          if constexpr (std::is_same_v<A, action::StopInstance> || std::is_same_v<A, action::KillInstance> ||
                        std::is_same_v<A, action::Cut> || std::is_same_v<A, action::Drain>) {
            return touches(a.generation, a.instance);
          }
          return false;
        },
        action);
    if (touched) fail("the serving generation was touched before the new one was ready");
  }

  config::Mode mode() { return static_cast<config::Mode>(random_() % 3); }

  // ---- actions ----
  void carry_out(const action::CreateGeneration& a) {
    if (a.generation <= newest_) fail("a generation number was used again");
    newest_ = a.generation;
    if (a.copy_of != 0 && !definitions_.contains(a.copy_of)) fail("copy of an unknown definition");
    definitions_.insert(a.generation);
  }
  void carry_out(const action::StartInstance& a) {
    if (state_.phase == Phase::kHotStart || state_.phase == Phase::kRestoring) {
      for (const auto& [key, process] : processes_) {
        if (key.first != a.generation && state_.rollover && a.generation > state_.rollover->from) {
          fail("a hot start beside a process of generation " + std::to_string(key.first));
        }
      }
    }
    if (!processes_.try_emplace({a.generation, a.instance}).second) fail("started twice");
    const bool replaces = is_replacing(state_.phase) && a.generation == state_.starting()->number;
    if (replaces && state_.phase == Phase::kReplacingBack) fail("a generation that has failed starts again");
    if (replaces) check_surge();
    if (unruly_ && chance(5)) stillborn_.push_back({a.generation, a.instance});
  }
  void check_surge() {
    const Generation& old = *state_.serving();
    const Generation& next = *state_.starting();
    std::size_t running = 0;
    for (const auto& [key, process] : processes_) running += process.killed ? 0 : 1;
    const config::Amount& surge = state_.policy.surge;
    const std::size_t more = surge.percent ? (next.whole * surge.value + 99) / 100 : surge.value;
    if (running > std::max(old.whole, next.whole) + more)
      fail("more processes at once than the surge allows");
  }
  void carry_out(const action::StopInstance& a) {
    const auto found = processes_.find({a.generation, a.instance});
    if (found == processes_.end()) return fail("stop of a process that is not there");
    if (found->second.told_to_stop) fail("told to stop twice");
    found->second.told_to_stop = true;
  }
  void carry_out(const action::KillInstance& a) {
    const auto found = processes_.find({a.generation, a.instance});
    if (found == processes_.end()) return fail("kill of a process that is not there");
    found->second.killed = true;
  }
  void carry_out(const action::SetRoute& a) { route_ = a.route; }
  void carry_out(const action::Drain& a) {
    check_off_route(a.generation, a.instance, "a drain of what still takes new connections");
    if (const Generation* g = state_.find(a.generation); g != nullptr && g->launch.owns_clients)
      fail("a drain is asked of those who see nothing of it");
    drains_.push_back(a.drain);
  }
  void carry_out(const action::Cut& a) {
    check_off_route(a.generation, a.instance, "a cut of what still takes new connections");
  }
  void carry_out(const action::SpreadCloses& a) {
    check_off_route(a.generation, -1, "closes are spread over what still takes new connections");
    if (a.over <= Duration::zero()) fail("closes are spread over no time");
  }
  void check_off_route(GenerationNumber generation, int instance, const char* what) {
    for (const RouteEntry& entry : route_) {
      if (entry.generation == generation && (instance < 0 || entry.instance == instance)) fail(what);
    }
  }
  void carry_out(const action::StopAccepting&) {
    if (stop_accepting_ && !accepting_stopped_) fail("told to stop accepting again before it has answered");
    stop_accepting_ = true;
    accepting_stopped_ = false;
  }
  void carry_out(const action::CloseHeld&) {}
  void carry_out(const action::RolloverEnded& a) {
    if (!rolling_) fail("a rollover ended that nobody had asked for, or twice");
    rolling_ = false;
    if (a.rollover.outcome == Outcome::kFailed && !cause_) fail("a rollover failed without a cause");
    if (a.rollover.outcome == Outcome::kDone && a.rollover.to == 0)
      fail("a rollover to nowhere was called done");
    if (a.rollover.outcome != Outcome::kDone && a.rollover.reason.empty()) fail("a failure without a reason");
  }
  void carry_out(const action::WantRollover&) { want_rollover_ = true; }
  void carry_out(const action::LaunchFailed& a) {
    if (a.why.empty()) fail("a launch failed without a reason");
  }
  void carry_out(const action::Note&) {}
  void carry_out(const action::Stopped&) {
    for (const auto& [key, process] : processes_) {
      if (!process.killed) fail("stopped with a process left that was not even killed");
    }
  }

  // ---- the world moves ----
  Key any_process() {
    auto it = processes_.begin();
    std::advance(it, random_() % processes_.size());
    return it->first;
  }

  void process_event() {
    if (processes_.empty()) return;
    const Key key = any_process();
    Process& p = processes_.at(key);
    if (p.killed || (p.told_to_stop && chance(50)) || chance(15)) {
      cause_ |= !p.killed && !p.told_to_stop;
      processes_.erase(key);
      send(event::InstanceExited{key.first, key.second, "exit status 1"});
    } else if (!p.ready) {
      p.ready = true;
      send(event::InstanceReady{key.first, key.second});
    } else if (chance(20)) {
      send(event::InstanceUnhealthy{key.first, key.second, "GET /up: 500"});
    } else if (chance(40)) {
      send(event::InstanceHealthy{key.first, key.second});
    }
  }

  void random_event() {
    const unsigned dice = random_() % 100;
    if (dice < 45) {
      process_event();
    } else if (dice < 60) {
      pass_time();
    } else if (dice < 72) {
      drain_event();
    } else if (dice < 82) {
      send(event::Rollover{mode(), policy(), launch()});
    } else if (dice < 85) {
      send(event::RolloverLater{});
    } else if (dice < 88) {
      send(event::Abort{});
    } else if (dice < 90) {
      send(event::Pause{});
    } else if (dice < 93) {
      send(event::Resume{});
    } else if (dice < 96) {
      send(event::Scale{static_cast<unsigned>(random_() % 5)});
    } else if (dice < 98) {
      stale_event();
    } else if (dice < 99) {
      accepting_event();
    } else if (chance(10)) {
      send(event::Stop{chance(30), chance(50)});
    } else {
      send(event::Adjust{policy(), launch()});
    }
  }

  void accepting_event() {
    if (stop_accepting_ && !accepting_stopped_) {
      accepting_stopped_ = true;
      send(event::AcceptingStopped{});
    }
  }

  void drain_event() {
    if (drains_.empty()) return;
    const std::size_t n = random_() % drains_.size();
    const std::uint64_t drain = drains_[n];
    drains_.erase(drains_.begin() + static_cast<std::ptrdiff_t>(n));
    send(event::Drained{drain});
  }

  void pass_time() {
    const Deadline due = next_deadline(state_);
    now_ += due && chance(50) ? std::max(*due - now_, Duration(0)) : any(1, 500);
    send(event::Tick{});
    if (const Deadline next = next_deadline(state_); next && *next < now_)
      fail("something overdue was left behind");
  }

  // Reports about things that are gone, or never were.
  void stale_event() {
    const GenerationNumber g = static_cast<GenerationNumber>(random_() % (newest_ + 2));
    const InstanceIndex i = static_cast<InstanceIndex>(3 + random_() % 3);
    if (processes_.contains({g, i})) return;
    switch (random_() % 4) {
      case 0:
        return send(event::InstanceReady{g, i});
      case 1:
        return send(event::InstanceExited{g, i, "late"});
      case 2:
        return send(event::InstanceUnhealthy{g, i, "late"});
      default: {
        const std::uint64_t drain = random_() % (state_.last_drain + 1);
        if (std::ranges::find(drains_, drain) == drains_.end()) send(event::Drained{drain});
      }
    }
  }

  // Everybody behaves from here on: what starts gets ready, what is told to stop ends, drains are answered.
  void come_to_rest() {
    unruly_ = false;
    for (int i = 0; i < 5000 && broken_.empty(); ++i) {
      bool moved = false;
      for (auto it = processes_.begin(); it != processes_.end();) {
        const Key key = it->first;
        Process& p = it->second;
        ++it;
        if (p.killed || p.told_to_stop) {
          processes_.erase(key);
          send(event::InstanceExited{key.first, key.second, "exit status 0"});
          moved = true;
          break;
        }
        if (!p.ready) {
          p.ready = true;
          send(event::InstanceReady{key.first, key.second});
          moved = true;
          break;
        }
        if (const Generation* g = state_.find(key.first);
            g != nullptr && g->instances[key.second].state == InstanceState::kUnhealthy) {
          send(event::InstanceHealthy{key.first, key.second});
          moved = true;
          break;
        }
      }
      if (moved) continue;
      if (!drains_.empty()) {
        drain_event();
      } else if (stop_accepting_ && !accepting_stopped_) {
        accepting_event();
      } else if (next_deadline(state_)) {
        pass_time();
      } else {
        break;
      }
    }
    if (broken_.empty()) check_rest();
  }

  void check_rest() {
    if (next_deadline(state_)) return fail("it never comes to rest");
    if (state_.rollover || rolling_) return fail("a rollover never ended");
    if (state_.phase == Phase::kPaused || state_.phase == Phase::kStopped) {
      if (!processes_.empty()) fail("processes are left after a pause or a stop");
      return;
    }
    const Generation* serving = state_.serving();
    if (state_.phase != Phase::kServing || serving == nullptr)
      return fail("no generation serves in a healthy world");
    if (state_.route.size() != serving->launch.instances) return fail("not every wanted instance serves");
    if (processes_.size() != serving->launch.instances) return fail("a process neither ended nor serves");
    if (state_.generations.size() != 1) fail("an old generation never went away");
  }

  std::mt19937_64 random_;
  State state_;
  TimePoint now_{1000s};
  std::map<Key, Process> processes_;
  std::set<GenerationNumber> definitions_;
  std::vector<RouteEntry> route_;
  std::vector<Key> stillborn_;  // could not even be started: told after the step's other actions
  bool unruly_ = true;
  std::vector<std::uint64_t> drains_;
  GenerationNumber newest_ = 0;
  bool stop_accepting_ = false;
  bool accepting_stopped_ = false;
  bool want_rollover_ = false;
  bool rolling_ = false;  // a rollover was taken and has not ended
  bool cause_ = false;    // something happened since that may fail it
  std::uint64_t events_ = 0;
  std::string broken_;
};

std::uint64_t number_from_environment(const char* name, std::uint64_t otherwise) {
  const char* text = std::getenv(name);
  return text != nullptr ? std::strtoull(text, nullptr, 10) : otherwise;
}

TEST(MachineRandom, InvariantsHoldInEveryWorld) {
  const std::uint64_t wanted = number_from_environment("RELAYD_EVENTS", 10'000'000);
  const std::uint64_t only = number_from_environment("RELAYD_SEED", 0);
  std::uint64_t events = 0;
  for (std::uint64_t seed = only != 0 ? only : 1; events < wanted; ++seed) {
    World world(seed);
    const std::string broken = world.play(300);
    ASSERT_EQ(broken, "") << "replay with RELAYD_SEED=" << seed;
    events += world.events();
    if (only != 0) break;
  }
  RecordProperty("events", std::to_string(events));
  std::printf("%llu events\n", static_cast<unsigned long long>(events));
}

}  // namespace
}  // namespace relayd::rollover
