// What happens to whole generations: made, drained, ended, taken out.
#include <algorithm>

#include "proxy/config/loader.h"
#include "proxy/rollover/machine_steps.h"

namespace relayd::rollover {
namespace {

bool all_gone(const Generation& g) {
  return std::ranges::all_of(g.instances, [](const Instance& i) { return i.state == InstanceState::kGone; });
}

bool is_over(const Generation& g) { return g.state == GenerationState::kStopping && all_gone(g); }

}  // namespace

bool all_ready(const Generation& g) {
  if (g.instances.size() < g.launch.instances) return false;
  return std::all_of(g.instances.begin(), g.instances.begin() + g.launch.instances,
                     [](const Instance& i) { return i.state == InstanceState::kReady; });
}

bool can_serve_again(const Generation& g) {
  return g.state == GenerationState::kDraining && g.launch.stop == config::StopWhen::kAfterDrain;
}

GenerationNumber Step::create(const Launch& launch, GenerationNumber copy_of, GenerationState state) {
  Generation& g = s_.generations.emplace_back();
  g.number = ++s_.last_number;
  g.state = state;
  g.launch = launch;
  g.began = now_;
  if (state == GenerationState::kStarting) g.due = now_ + launch.ready_timeout;
  if (state == GenerationState::kServing) {
    s_.last_served = g.number;
    s_.last_launch = launch;
  }
  emit(action::CreateGeneration{g.number, copy_of});
  note(Kind::kGenerationStarting, g.number, -1,
       copy_of != 0 ? "with the definition of generation " + std::to_string(copy_of) : "");
  resize(g, launch.instances);
  return g.number;
}

void Step::begin_drain(Generation& g) {
  g.state = GenerationState::kDraining;
  set_ends(g);
  g.drain = ++s_.last_drain;
  update_route();
  std::string limits = "for at most " + config::format_duration(s_.policy.graceful_timeout);
  if (s_.policy.tunnel_timeout != s_.policy.graceful_timeout) {
    limits += ", tunnels for at most " + config::format_duration(s_.policy.tunnel_timeout);
  }
  note(Kind::kDraining, g.number, -1, limits);
  if (!g.launch.owns_clients) emit(action::Drain{g.number, -1, g.drain});
  begin_spreads(g);  // where they take all of the drain
  for (std::size_t n = 0; n < g.instances.size(); ++n) {
    const auto i = static_cast<InstanceIndex>(n);
    Instance& instance = g.instances[n];
    if (instance.state == InstanceState::kWaiting || instance.state == InstanceState::kStarting) {
      stop_instance(g, i);  // never had a client, or lost them with its process
    } else if (g.launch.stop == config::StopWhen::kAtOnce && has_process(instance.state) &&
               instance.state != InstanceState::kStopping && instance.state != InstanceState::kKilled) {
      emit(action::StopInstance{g.number, i});
      instance.state = InstanceState::kStopping;  // drains itself: KILL is due only after the drain
      instance.due.reset();
      end_drain(instance);
    }
  }
}

// When what of a draining generation is cut, and from when on its closes are spread.
void Step::set_ends(Generation& g) {
  set_cuts(g);
  if (s_.policy.close_spread <= Duration::zero()) return;
  g.spread_due = *g.due - s_.policy.close_spread;
  if (g.sooner_due) g.sooner_spread_due = *g.sooner_due - s_.policy.close_spread;
}

void Step::cut_sooner(Generation& g) {
  const auto cut = [&](Deadline& due, net::ConnectionKind kind, int instance) {
    if (!due || *due > now_) return;
    due.reset();
    note(Kind::kCut, g.number, instance,
         kind == net::ConnectionKind::kTunnels ? "tunnels" : "all but tunnels");
    emit(action::Cut{g.number, instance, kind});
  };
  cut(g.sooner_due, g.sooner_kind, -1);
  for (std::size_t i = 0; i < g.instances.size(); ++i) {
    cut(g.instances[i].sooner_due, g.instances[i].sooner_kind, static_cast<int>(i));
  }
}

void Step::drop_ends(Generation& g) {
  g.due.reset();
  g.spread_due.reset();
  g.sooner_due.reset();
  g.sooner_spread_due.reset();
}

void Step::begin_spreads(Generation& g) {
  const auto begin = [&](Deadline& spread_due, const Deadline& end, net::ConnectionKind kind) {
    if (!spread_due || *spread_due > now_) return;
    spread_due.reset();
    if (end && *end > now_) emit(action::SpreadCloses{g.number, kind, *end - now_});
  };
  begin(g.sooner_spread_due, g.sooner_due, g.sooner_kind);
  begin(g.spread_due, g.due, net::others(g.sooner_kind));
}

void Step::serve_again(Generation& g) {
  g.state = GenerationState::kServing;
  drop_ends(g);
  g.drain = 0;
  resize(g, s_.last_launch.instances);  // as `scale` may have changed it meanwhile
  update_route();
}

void Step::stop_generation(Generation& g) {
  g.state = GenerationState::kStopping;
  drop_ends(g);
  g.drain = 0;
  for (std::size_t i = 0; i < g.instances.size(); ++i) stop_instance(g, static_cast<InstanceIndex>(i));
}

void Step::cut_and_stop(Generation& g) {
  const bool had_clients = g.state == GenerationState::kServing || g.state == GenerationState::kDraining;
  g.state = GenerationState::kStopping;
  update_route();  // before the cut: what is cut must not come back
  if (had_clients) {
    note(Kind::kCut, g.number);
    emit(action::Cut{g.number, -1});
  }
  stop_generation(g);
}

void Step::kill_generation(Generation& g) {
  g.state = GenerationState::kStopping;
  drop_ends(g);
  for (std::size_t i = 0; i < g.instances.size(); ++i) kill_instance(g, static_cast<InstanceIndex>(i));
}

void Step::cut_oldest_over(unsigned limit) {
  std::size_t draining = 0;
  for (const Generation& g : s_.generations) draining += g.state == GenerationState::kDraining ? 1 : 0;
  for (Generation& g : s_.generations) {
    if (draining < limit) return;
    if (g.state != GenerationState::kDraining) continue;
    cut_and_stop(g);
    --draining;
  }
}

void Step::generation_due(Generation& g, const std::string& why_not_ready) {
  if (g.state == GenerationState::kStarting) {
    std::string why = "generation " + std::to_string(g.number) + " was not ready within " +
                      config::format_duration(g.launch.ready_timeout) + " (ready_timeout)";
    if (!why_not_ready.empty()) why += ": " + why_not_ready;
    fail(Outcome::kFailed, std::move(why));
  } else if (g.state == GenerationState::kDraining && g.launch.owns_clients) {
    note(Kind::kCut, g.number, -1, "its processes are killed");
    kill_generation(g);
  } else if (g.state == GenerationState::kDraining) {
    cut_and_stop(g);
  }
}

// Takes out what is over; true where something was.
bool Step::collect_gone() {
  bool changed = false;
  for (Generation& g : s_.generations) {
    while (g.instances.size() > g.launch.instances && g.instances.back().state == InstanceState::kGone) {
      g.instances.pop_back();
    }
    if (g.launch.owns_clients && g.state == GenerationState::kDraining && all_gone(g)) {
      note(Kind::kDrained, g.number, -1, "its processes have ended");
      stop_generation(g);
    }
  }
  std::erase_if(s_.generations, [this, &changed](const Generation& g) {
    if (!is_over(g)) return false;
    note(Kind::kGenerationStopped, g.number);
    return changed = true;
  });
  return changed;
}

}  // namespace relayd::rollover
