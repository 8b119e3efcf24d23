#include <algorithm>

#include "proxy/config/loader.h"
#include "proxy/rollover/machine_steps.h"

namespace relayd::rollover {
namespace {

// A process that KILL does not end hangs in the kernel (on a dead network file system, say): told so often.
constexpr Duration kKilledPatience = std::chrono::seconds(10);

}  // namespace

// ---- Reports from instances
// ---------------------------------------------------------------------------------------

Instance* Step::find_instance(GenerationNumber generation, InstanceIndex instance) {
  Generation* g = s_.find(generation);
  return g != nullptr && instance < g->instances.size() ? &g->instances[instance] : nullptr;
}

void Step::operator()(const event::InstanceReady& e) {
  Instance* instance = find_instance(e.generation, e.instance);
  if (instance == nullptr || instance->state != InstanceState::kStarting) return;
  instance->state = InstanceState::kReady;
  instance->since = now_;
  instance->due.reset();
  note(Kind::kInstanceReady, e.generation, e.instance);
}

void Step::operator()(const event::InstanceUnhealthy& e) {
  Instance* instance = find_instance(e.generation, e.instance);
  if (instance == nullptr || instance->state != InstanceState::kReady) return;
  instance->state = InstanceState::kUnhealthy;
  update_route();
  note(Kind::kInstanceUnhealthy, e.generation, e.instance, e.why);
}

void Step::operator()(const event::InstanceHealthy& e) {
  Instance* instance = find_instance(e.generation, e.instance);
  if (instance == nullptr || instance->state != InstanceState::kUnhealthy) return;
  instance->state = InstanceState::kReady;
  note(Kind::kInstanceHealthy, e.generation, e.instance);
}

void Step::operator()(const event::InstanceExited& e) {
  Instance* instance = find_instance(e.generation, e.instance);
  if (instance == nullptr || !has_process(instance->state)) return;
  Generation& g = *s_.find(e.generation);
  const bool asked_to =
      instance->state == InstanceState::kStopping || instance->state == InstanceState::kKilled;
  note(asked_to ? Kind::kInstanceStopped : Kind::kInstanceExited, e.generation, e.instance, e.why);
  const bool was_killed = instance->state == InstanceState::kKilled;
  const bool wanted = e.instance < g.launch.instances && s_.phase != Phase::kStopping;
  if (g.state == GenerationState::kServing && wanted && (!asked_to || was_killed)) {
    restart_later(g, e.instance, e.why);
    return;
  }
  instance->state = InstanceState::kGone;
  instance->due.reset();
  end_drain(*instance);
  if (!wanted) return;
  if (g.state == GenerationState::kStarting && !asked_to) {
    fail(Outcome::kFailed, "instance " + std::to_string(e.instance) + " of generation " +
                               std::to_string(g.number) + ": " + e.why);
  } else if (g.state == GenerationState::kStarting || g.state == GenerationState::kServing) {
    start_instance(g, e.instance);  // it was one too many when it was told to end, and is wanted again
  }
}

void Step::operator()(const event::Drained& e) {
  for (Generation& g : s_.generations) {
    if (g.state == GenerationState::kDraining && g.drain == e.drain) {
      note(Kind::kDrained, g.number);
      stop_generation(g);
      return;
    }
    for (std::size_t i = 0; i < g.instances.size(); ++i) {
      if (g.instances[i].state == InstanceState::kDraining && g.instances[i].drain == e.drain) {
        stop_instance(g, static_cast<InstanceIndex>(i));
        return;
      }
    }
  }
}

// ---- Instances
// ----------------------------------------------------------------------------------------------------

// Brings the number of instances to what is wanted: missing ones start, the ones too many finish and stop.
void Step::resize(Generation& g, unsigned instances) {
  if (g.launch.instances != instances) note(Kind::kScaled, g.number, -1, std::to_string(instances));
  g.launch.instances = instances;
  if (g.number == s_.last_served) s_.last_launch.instances = instances;
  while (g.instances.size() < instances) g.instances.emplace_back().next_delay = g.launch.restart_delay.min;
  bool drains = false;
  for (std::size_t n = 0; n < g.instances.size(); ++n) {
    Instance& instance = g.instances[n];
    const auto i = static_cast<InstanceIndex>(n);
    if (n < instances) {
      if (instance.state == InstanceState::kGone) start_instance(g, i);
      if (instance.state == InstanceState::kDraining) {  // wanted again before it was stopped
        instance.state = InstanceState::kReady;
        instance.due.reset();
        end_drain(instance);
      }
    } else if (g.state == GenerationState::kServing && g.launch.owns_clients) {
      stop_instance(g, i);
      if (instance.state == InstanceState::kStopping) instance.due = now_ + s_.policy.graceful_timeout;
    } else if (g.state == GenerationState::kServing &&
               (instance.state == InstanceState::kReady || instance.state == InstanceState::kUnhealthy)) {
      instance.state = InstanceState::kDraining;
      set_cuts(instance);
      instance.drain = ++s_.last_drain;
      drains = true;
    } else if (instance.state != InstanceState::kDraining) {
      stop_instance(g, i);
    }
  }
  if (!drains) return;
  update_route();
  for (std::size_t n = instances; n < g.instances.size(); ++n) {
    const Instance& instance = g.instances[n];
    if (instance.state == InstanceState::kDraining) {
      emit(action::Drain{g.number, static_cast<int>(n), instance.drain});
    }
  }
}

void Step::end_drain(Instance& instance) {
  instance.drain = 0;
  instance.sooner_due.reset();
}

void Step::start_instance(Generation& g, InstanceIndex i) {
  Instance& instance = g.instances[i];
  instance.state = InstanceState::kStarting;
  instance.since = now_;
  instance.due.reset();
  if (g.state == GenerationState::kServing) instance.due = now_ + g.launch.ready_timeout;
  emit(action::StartInstance{g.number, i});
}

void Step::stop_instance(Generation& g, InstanceIndex i) {
  Instance& instance = g.instances[i];
  switch (instance.state) {
    case InstanceState::kGone:
    case InstanceState::kKilled:
      return;
    case InstanceState::kWaiting:
      instance.state = InstanceState::kGone;
      instance.due.reset();
      return;
    case InstanceState::kStopping:
      if (!instance.due) instance.due = now_ + g.launch.kill_timeout;
      return;
    default:
      break;
  }
  instance.state = InstanceState::kStopping;
  instance.due = now_ + g.launch.kill_timeout;
  end_drain(instance);
  emit(action::StopInstance{g.number, i});
}

void Step::kill_instance(Generation& g, InstanceIndex i) {
  Instance& instance = g.instances[i];
  if (instance.state == InstanceState::kGone || instance.state == InstanceState::kKilled) return;
  instance.due.reset();
  end_drain(instance);
  if (instance.state == InstanceState::kWaiting) {
    instance.state = InstanceState::kGone;
    return;
  }
  instance.state = InstanceState::kKilled;
  instance.due = now_ + kKilledPatience;
  emit(action::KillInstance{g.number, i});
}

// It ended while clients count on it.
void Step::restart_later(Generation& g, InstanceIndex i, const std::string& why) {
  Instance& instance = g.instances[i];
  const config::RestartDelay& delay = g.launch.restart_delay;
  const bool was_up = instance.state == InstanceState::kReady || instance.state == InstanceState::kUnhealthy;
  const bool reported = instance.state == InstanceState::kKilled;
  if (was_up && now_ - instance.since >= delay.max) instance.next_delay = delay.min;
  instance.state = InstanceState::kWaiting;
  instance.due = now_ + instance.next_delay;
  end_drain(instance);
  ++instance.restarts;
  note(Kind::kInstanceRestarting, g.number, i, "in " + config::format_duration(instance.next_delay));
  instance.next_delay = std::min(instance.next_delay * 2, delay.max);
  update_route();
  if (!g.was_ready && !reported) launch_failed(g, "instance " + std::to_string(i) + ": " + why);
}

// A generation with the serving role has never been ready, and one of its instances just failed again.
void Step::launch_failed(const Generation& g, const std::string& why) {
  emit(action::LaunchFailed{"generation " + std::to_string(g.number) + ", " + why});
  if (s_.phase != Phase::kRestoring) return;
  s_.phase = Phase::kServing;
  s_.rollover->reason += "\nThe previous definition, started again as generation " +
                         std::to_string(g.number) +
                         ", does not start either (it is tried again with back-off): " + why;
  end_rollover();
}

void Step::instance_due(Generation& g, InstanceIndex i, const std::string& why_not_ready) {
  switch (g.instances[i].state) {
    case InstanceState::kWaiting:
      start_instance(g, i);
      return;
    case InstanceState::kStarting: {
      std::string why =
          "not ready within " + config::format_duration(g.launch.ready_timeout) + " (ready_timeout)";
      if (!why_not_ready.empty()) why += ": " + why_not_ready;
      note(Kind::kInstanceKilled, g.number, i, why);
      kill_instance(g, i);
      if (!g.was_ready) launch_failed(g, "instance " + std::to_string(i) + ": " + why);
      return;
    }
    case InstanceState::kDraining:
      note(Kind::kCut, g.number, i);
      emit(action::Cut{g.number, i});
      stop_instance(g, i);
      return;
    case InstanceState::kStopping:
      note(Kind::kInstanceKilled, g.number, i,
           "still there after kill_timeout " + config::format_duration(g.launch.kill_timeout));
      kill_instance(g, i);
      return;
    case InstanceState::kKilled:
      note(Kind::kInstanceKilled, g.number, i, "still there after KILL: it hangs in the kernel");
      g.instances[i].due = now_ + kKilledPatience;
      if (s_.phase != Phase::kStopping) return;
      g.instances[i].state = InstanceState::kGone;  // relayd does not wait for it for ever
      g.instances[i].due.reset();
      return;
    default:
      g.instances[i].due.reset();
      return;
  }
}

}  // namespace relayd::rollover
