#include "proxy/rollover/machine.h"

#include <algorithm>

#include "proxy/rollover/machine_steps.h"

namespace relayd::rollover {

void Step::operator()(const event::Start& e) {
  if (s_.phase != Phase::kIdle) return;
  s_.policy = e.policy;
  s_.phase = Phase::kServing;
  create(e.launch, 0, GenerationState::kServing);
}

void Step::operator()(const event::Rollover& e) {
  if (!may_roll_over(s_)) return;
  s_.policy = e.policy;
  s_.again = false;
  Generation* serving = s_.serving();
  RolloverInProgress rollover;
  rollover.mode = e.mode;
  rollover.from = serving != nullptr ? serving->number : s_.last_served;
  rollover.from_paused = serving == nullptr;
  rollover.began = now_;
  s_.rollover = std::move(rollover);
  note(Kind::kRolloverStarted, s_.rollover->from, -1, config::to_string(e.mode));

  if (serving != nullptr && e.mode == config::Mode::kPhased) {
    const bool all_at_once = surge_of(e.launch.instances) >= e.launch.instances;
    s_.phase = all_at_once ? Phase::kPhasedStart : Phase::kReplacing;
    s_.rollover->to = create(e.launch, 0, GenerationState::kStarting);
    return;
  }
  empty_then_start(Pending{0, e.launch});
  if (e.mode == config::Mode::kRestart) {
    for (Generation& g : s_.generations) cut_and_stop(g);
  } else if (serving != nullptr) {
    begin_drain(*serving);
  }
}

void Step::operator()(const event::RolloverLater&) {
  if (s_.phase != Phase::kStopping && s_.phase != Phase::kStopped && !s_.stop_by) s_.again = true;
}

void Step::operator()(const event::Abort&) {
  if (!s_.rollover || s_.rollover->outcome != Outcome::kDone) return;
  const std::string reason = "aborted on request";
  if (s_.rollover->from_paused) {  // nobody served before, on purpose
    pause(reason);
    return;
  }
  if (s_.phase != Phase::kEmptying) {
    fail(Outcome::kAborted, reason);
    return;
  }
  settle_outcome(Outcome::kAborted, reason);
  Generation* from = s_.find(s_.rollover->from);
  if (from != nullptr && can_serve_again(*from)) {
    s_.pending.reset();
    s_.phase = Phase::kServing;
    serve_again(*from);
    end_rollover();
  } else {
    s_.pending = Pending{s_.rollover->from, s_.last_launch};
  }
}

void Step::operator()(const event::Pause&) {
  switch (s_.phase) {
    case Phase::kIdle:
    case Phase::kPausing:
    case Phase::kPaused:
    case Phase::kStopping:
    case Phase::kStopped:
      return;
    default:
      break;
  }
  if (!s_.stop_by) pause("paused on request");
}

void Step::operator()(const event::Resume&) {
  if (s_.phase != Phase::kPaused && s_.phase != Phase::kPausing) return;
  note(Kind::kResumed);
  Generation* last = s_.find(s_.last_served);
  if (last != nullptr && can_serve_again(*last)) {
    s_.phase = Phase::kServing;
    serve_again(*last);
  } else {
    empty_then_start(Pending{s_.last_served, s_.last_launch});
  }
}

void Step::operator()(const event::Scale& e) {
  if (e.instances == 0 || s_.phase == Phase::kStopping || s_.phase == Phase::kStopped) return;
  s_.last_launch.instances = e.instances;
  if (s_.pending) s_.pending->launch.instances = e.instances;
  for (Generation& g : s_.generations) {
    if (g.state == GenerationState::kServing || g.state == GenerationState::kStarting) resize(g, e.instances);
  }
}

void Step::operator()(const event::Adjust& e) {
  const auto adjust = [&e](Launch& launch) {
    launch.ready_timeout = e.launch.ready_timeout;
    launch.kill_timeout = e.launch.kill_timeout;
    launch.restart_delay = e.launch.restart_delay;
  };
  s_.policy = e.policy;
  adjust(s_.last_launch);
  if (s_.pending) adjust(s_.pending->launch);
  for (Generation& g : s_.generations) {
    adjust(g.launch);
    for (Instance& i : g.instances) {
      i.next_delay = std::clamp(i.next_delay, e.launch.restart_delay.min, e.launch.restart_delay.max);
    }
  }
}

void Step::operator()(const event::Stop& e) {
  if (s_.phase == Phase::kStopped) return;
  if (!e.fast && (s_.phase == Phase::kStopping || s_.stop_by)) return;
  const bool somebody_may_come = s_.phase == Phase::kServing || s_.phase == Phase::kPhasedStart ||
                                 is_replacing(s_.phase) || s_.phase == Phase::kEmptying ||
                                 s_.phase == Phase::kHotStart || s_.phase == Phase::kRestoring;
  if (!e.fast && e.clients_held && s_.route.empty() && somebody_may_come) {
    s_.stop_by = now_ + s_.policy.graceful_timeout;
    s_.again = false;
    stop_accepting();
  } else {
    begin_stop(e.fast);
  }
}

void Step::operator()(const event::AcceptingStopped&) {
  if (s_.accepting != Accepting::kStopping) return;
  s_.accepting = Accepting::kNo;
  if (s_.phase == Phase::kStopping) drain_for_good();
}

void Step::operator()(const event::Tick& e) {
  // Whatever is due may create or take back others, so each is looked up anew; numbers never come back.
  for (std::size_t n = 0; n < s_.generations.size(); ++n) {
    for (std::size_t i = 0; i < s_.generations[n].instances.size(); ++i) {
      const Deadline due = s_.generations[n].instances[i].due;
      if (due && *due <= now_)
        instance_due(s_.generations[n], static_cast<InstanceIndex>(i), e.why_not_ready);
    }
    cut_sooner(s_.generations[n]);
    begin_spreads(s_.generations[n]);
    const Deadline due = s_.generations[n].due;
    if (due && *due <= now_) generation_due(s_.generations[n], e.why_not_ready);
  }
  if (s_.stop_by && *s_.stop_by <= now_) begin_stop(false);
}

// From whatever phase: nothing serves or starts any more.
void Step::pause(std::string reason) {
  s_.again = false;
  s_.pending.reset();
  const bool has_clients = is_replacing(s_.phase);
  s_.phase = Phase::kPausing;
  settle_outcome(Outcome::kAborted, std::move(reason));
  end_rollover();
  if (Generation* starting = s_.starting()) has_clients ? withdraw(*starting) : stop_generation(*starting);
  if (Generation* serving = s_.serving()) begin_drain(*serving);
}

// The serving role is empty from here on: clients are held until `pending` is ready.
void Step::empty_then_start(const Pending& pending) {
  s_.pending = pending;
  s_.phase = Phase::kEmptying;
}

void Step::switch_over() {
  Generation* old = s_.serving();
  const GenerationNumber old_number = old != nullptr ? old->number : 0;
  Generation& next = *s_.starting();
  note(Kind::kGenerationReady, next.number);
  if (old != nullptr) cut_oldest_over(s_.policy.max_old_generations);
  // One moment for new connections: no state in which neither or both would take them is ever given out.
  if (old != nullptr) old->state = GenerationState::kDraining;
  next.state = GenerationState::kServing;
  next.due.reset();
  next.was_ready = true;
  s_.last_served = next.number;
  s_.last_launch = next.launch;
  s_.phase = Phase::kServing;
  update_route();
  note(Kind::kSwitched, next.number, -1,
       old_number != 0 ? "from generation " + std::to_string(old_number) : "");
  if (old != nullptr) begin_drain(*old);
  end_rollover();
}

void Step::settle_outcome(Outcome outcome, std::string reason) {
  if (!s_.rollover || s_.rollover->outcome != Outcome::kDone) return;
  s_.rollover->outcome = outcome;
  s_.rollover->reason = std::move(reason);
}

// The generation that is starting will not serve.
void Step::fail(Outcome outcome, std::string reason) {
  Generation* next = s_.starting();
  if (!s_.rollover || next == nullptr) return;
  settle_outcome(outcome, std::move(reason));
  note(Kind::kRolloverFailing, next->number, -1, s_.rollover->reason);
  if (s_.phase == Phase::kReplacing) {
    replace_back(outcome);
    return;
  }
  if (s_.phase == Phase::kPhasedStart) {
    s_.phase = Phase::kServing;
    end_rollover();
  } else {
    empty_then_start(Pending{s_.rollover->from, s_.last_launch});
  }
  if (outcome == Outcome::kAborted) {
    stop_generation(*next);
  } else {
    kill_generation(*next);
  }
}

void Step::end_rollover() {
  if (!s_.rollover) return;
  emit(action::RolloverEnded{std::move(*s_.rollover)});
  s_.rollover.reset();
}

void Step::stop_accepting() {
  if (s_.accepting != Accepting::kYes) return;
  s_.accepting = Accepting::kStopping;
  emit(action::StopAccepting{});
}

void Step::begin_stop(bool fast) {
  settle_outcome(Outcome::kAborted, "relayd is stopping");
  end_rollover();
  s_.pending.reset();
  s_.stop_by.reset();
  s_.again = false;
  if (is_replacing(s_.phase)) end_replacing();
  s_.phase = Phase::kStopping;
  stop_accepting();
  if (Generation* starting = s_.starting()) stop_generation(*starting);
  if (!fast && s_.serving() == nullptr) emit(action::CloseHeld{});  // nobody will come for them
  if (fast) {
    for (Generation& g : s_.generations) cut_and_stop(g);
    update_route();
    emit(action::CloseHeld{});
  } else if (s_.accepting == Accepting::kNo) {
    if (s_.route.empty()) return drain_for_good();
    s_.accepting = Accepting::kStopping;  // those who waited for this generation are given to it first
    emit(action::StopAccepting{});
  }
}

// Nobody new comes in any more: what was accepted has been given to the serving generation, if there is one.
void Step::drain_for_good() {
  if (Generation* serving = s_.serving()) begin_drain(*serving);
  emit(action::CloseHeld{});
}

// One move to the next phase; false where there is none.
bool Step::advance() {
  switch (s_.phase) {
    case Phase::kEmptying: {
      if (!s_.generations.empty()) return false;
      const Pending pending = *std::exchange(s_.pending, std::nullopt);
      if (pending.copy_of == 0) {
        s_.phase = Phase::kHotStart;
        s_.rollover->to = create(pending.launch, 0, GenerationState::kStarting);
      } else {
        s_.phase = s_.rollover ? Phase::kRestoring : Phase::kServing;
        if (s_.rollover) note(Kind::kRestoring, pending.copy_of);
        create(pending.launch, pending.copy_of, GenerationState::kServing);
      }
      return true;
    }
    case Phase::kPhasedStart:
    case Phase::kHotStart: {
      const Generation* next = s_.starting();
      if (next == nullptr || !all_ready(*next)) return false;
      switch_over();
      return true;
    }
    case Phase::kReplacing:
    case Phase::kReplacingBack:
      return replace_some();
    case Phase::kServing:
    case Phase::kRestoring: {
      Generation* serving = s_.serving();
      if (serving == nullptr || serving->was_ready || !all_ready(*serving)) return false;
      serving->was_ready = true;
      note(Kind::kGenerationReady, serving->number);
      s_.phase = Phase::kServing;
      update_route();
      end_rollover();
      return true;
    }
    case Phase::kPausing:
      if (!s_.generations.empty()) return false;
      s_.phase = Phase::kPaused;
      note(Kind::kPaused);
      return true;
    case Phase::kStopping:
      if (!s_.generations.empty() || s_.accepting != Accepting::kNo) return false;
      s_.phase = Phase::kStopped;
      emit(action::Stopped{});
      return true;
    case Phase::kIdle:
    case Phase::kPaused:
    case Phase::kStopped:
      return false;
  }
  return false;
}

void Step::update_route() {
  std::vector<RouteEntry> route;
  for (const Generation& g : s_.generations) {
    const bool replaces = g.state == GenerationState::kStarting && is_replacing(s_.phase);
    if (g.state != GenerationState::kServing && !replaces) continue;
    for (std::size_t i = 0; i < g.instances.size(); ++i) {
      if (g.instances[i].state != InstanceState::kReady) continue;
      route.push_back({g.number, static_cast<InstanceIndex>(i)});
    }
  }
  if (route == s_.route) return;
  const bool was_empty = s_.route.empty();
  s_.route = std::move(route);
  emit(action::SetRoute{s_.route});
  if (s_.route.empty() && s_.phase != Phase::kStopping) note(Kind::kHolding);
  if (was_empty) note(Kind::kReleased, s_.route.front().generation);
}

void Step::settle() {
  while (collect_gone() || advance()) {
  }
  update_route();
  if (s_.stop_by && !s_.route.empty()) {
    begin_stop(false);
    while (collect_gone() || advance()) {
    }
  }
  if (s_.again && may_roll_over(s_)) {
    s_.again = false;
    emit(action::WantRollover{});
  }
}

Actions step(State& state, const Event& event, TimePoint now) {
  Actions actions;
  Step step(state, now, actions);
  std::visit(step, event);
  step.settle();
  return actions;
}

Deadline next_deadline(const State& state) {
  Deadline earliest = state.stop_by;
  const auto consider = [&earliest](const Deadline& due) {
    if (due && (!earliest || *due < *earliest)) earliest = due;
  };
  for (const Generation& g : state.generations) {
    consider(g.due);
    consider(g.spread_due);
    consider(g.sooner_due);
    consider(g.sooner_spread_due);
    for (const Instance& i : g.instances) {
      consider(i.due);
      consider(i.sooner_due);
    }
  }
  return earliest;
}

bool may_roll_over(const State& state) {
  return !state.stop_by &&
         (state.phase == Phase::kServing || state.phase == Phase::kPausing || state.phase == Phase::kPaused);
}

}  // namespace relayd::rollover
