#pragma once

#include <algorithm>
#include <string>
#include <utility>

#include "proxy/rollover/machine.h"

// Inside of the rollover machine: one object per step. machine.cc has the events and phases of the service,
// machine_replacing.cc what is done some instances at a time, machine_generations.cc and machine_instances.cc
// what happens to its generations and instances.
namespace relayd::rollover {

// A process that KILL does not end hangs in the kernel (on a dead network file system, say): told so often.
constexpr Duration kKilledPatience = std::chrono::seconds(10);

class Step {
 public:
  Step(State& state, TimePoint now, Actions& actions) : s_(state), now_(now), actions_(actions) {}

  void operator()(const event::Start& e);
  void operator()(const event::Rollover& e);
  void operator()(const event::RolloverLater& e);
  void operator()(const event::Abort& e);
  void operator()(const event::Pause& e);
  void operator()(const event::Resume& e);
  void operator()(const event::Scale& e);
  void operator()(const event::Adjust& e);
  void operator()(const event::Stop& e);
  void operator()(const event::AcceptingStopped& e);
  void operator()(const event::InstanceReady& e);
  void operator()(const event::InstanceUnhealthy& e);
  void operator()(const event::InstanceHealthy& e);
  void operator()(const event::InstanceExited& e);
  void operator()(const event::Drained& e);
  void operator()(const event::Tick& e);

  // After every event: takes out what is gone, moves on to the next phase, gives out the route if it changed.
  void settle();

 private:
  using Kind = action::Note::Kind;

  // The service: machine.cc
  void pause(std::string reason);
  void empty_then_start(const Pending& pending);
  void switch_over();
  void fail(Outcome outcome, std::string reason);
  void settle_outcome(Outcome outcome, std::string reason);
  void end_rollover();
  void begin_stop(bool fast);
  void drain_for_good();
  void stop_accepting();
  bool advance();
  void update_route();

  // Some instances at a time: machine_replacing.cc
  unsigned surge_of(unsigned instances) const;
  unsigned alive() const;
  bool replace_some();
  bool exchange_some(Generation& up, Generation& down);
  void replace_back(Outcome outcome);
  void not_back(const std::string& why);
  void serve_whole();
  void end_replacing();
  void withdraw(Generation& g);

  // Generations: machine_generations.cc
  GenerationNumber create(const Launch& launch, GenerationNumber copy_of, GenerationState state);
  void begin_drain(Generation& g);
  void cut_sooner(Generation& g);
  void set_ends(Generation& g);
  // For a generation or an instance whose drain begins: when what of it is cut.
  template <typename Draining>
  void set_cuts(Draining& draining) const {
    const auto [sooner, later] = std::minmax(s_.policy.graceful_timeout, s_.policy.tunnel_timeout);
    draining.due = now_ + later;
    draining.sooner_kind = net::ConnectionKind::kAll;
    if (sooner == later) return;
    draining.sooner_due = now_ + sooner;
    draining.sooner_kind =
        sooner == s_.policy.tunnel_timeout ? net::ConnectionKind::kTunnels : net::ConnectionKind::kPlain;
  }
  static void drop_ends(Generation& g);
  void begin_spreads(Generation& g);
  void serve_again(Generation& g);
  void stop_generation(Generation& g);
  void cut_and_stop(Generation& g);
  void kill_generation(Generation& g);
  void cut_oldest_over(unsigned limit);
  void generation_due(Generation& g, const std::string& why_not_ready);
  bool collect_gone();

  // Instances: machine_instances.cc
  void resize(Generation& g, unsigned instances);
  void bring_to(Generation& g, unsigned instances);
  void start_instance(Generation& g, InstanceIndex i);
  void stop_instance(Generation& g, InstanceIndex i);
  void kill_instance(Generation& g, InstanceIndex i);
  void restart_later(Generation& g, InstanceIndex i, const std::string& why);
  void launch_failed(const Generation& g, const std::string& why);
  void instance_due(Generation& g, InstanceIndex i, const std::string& why_not_ready);
  static void end_drain(Instance& instance);
  Instance* find_instance(GenerationNumber generation, InstanceIndex instance);

  template <typename A>
  void emit(A&& action) {
    actions_.emplace_back(std::forward<A>(action));
  }
  void note(Kind kind, GenerationNumber generation = 0, int instance = -1, std::string text = {}) {
    emit(action::Note{kind, generation, instance, std::move(text)});
  }

  State& s_;
  const TimePoint now_;
  Actions& actions_;
};

bool all_ready(const Generation& g);
// The drain can still be taken back: nothing of it was told to end.
bool can_serve_again(const Generation& g);

}  // namespace relayd::rollover
