// What the rollover driver does when the machine says so, and what instances report back.
#include <algorithm>

#include "proxy/rollover/driver.h"
#include "proxy/rollover/wording.h"

namespace relayd::rollover {
namespace {

std::int64_t unix_now_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

std::optional<ProxyVersion> version_of(config::ProxyProtocol send) {
  if (send == config::ProxyProtocol::kOff) return std::nullopt;
  return send == config::ProxyProtocol::kV1 ? ProxyVersion::kV1 : ProxyVersion::kV2;
}

}  // namespace

void Driver::carry_out(const action::CreateGeneration& a) {
  definitions_[a.generation] = a.copy_of == 0 ? next_definition_ : definitions_.at(a.copy_of);
}

void Driver::carry_out(const action::StartInstance& a) {
  const Key key{a.generation, a.instance};
  Slot& slot = slots_[key];
  slot.instance = backend::make_instance(context_, definitions_.at(a.generation), a.generation, a.instance,
                                         events_of(key), slot.listening);
  const auto started = slot.instance->start();
  slot.listening = slot.instance->listening();
  if (!started) {
    slot.instance.reset();
    slot.last_end = started.error().message;
    feed(event::InstanceExited{a.generation, a.instance, started.error().message});
  }
}

void Driver::carry_out(const action::StopInstance& a) {
  if (const auto found = slots_.find({a.generation, a.instance});
      found != slots_.end() && found->second.instance) {
    found->second.instance->stop();
  }
}

void Driver::carry_out(const action::KillInstance& a) {
  if (const auto found = slots_.find({a.generation, a.instance});
      found != slots_.end() && found->second.instance) {
    found->second.instance->kill();
  }
}

void Driver::carry_out(const action::SetRoute& a) {
  give_route(a.route);
  steer(a.route);
  outside_.route_changed();
}

void Driver::give_route(const std::vector<RouteEntry>& entries) {
  auto route = std::make_shared<net::Route>();
  route->balance = service_.backend.balance;
  for (const RouteEntry& entry : entries) {
    Slot& slot = slots_.at({entry.generation, entry.instance});
    if (!slot.instance) continue;  // ended in this very step: the route without it follows
    const auto send = version_of(definitions_.at(entry.generation)->service.proxy_protocol.send);
    slot.loads.fold();
    for (const SocketAddress& address : slot.instance->addresses()) {
      route->endpoints.push_back({address, entry.generation, entry.instance, slot.loads.of(address), send});
    }
  }
  data_plane_.set_route(id_, std::move(route));
}

// Generations keep what their definition says; a route of which a part is not to be steered is not steered.
void Driver::steer(const std::vector<RouteEntry>& route) {
  if (outside_.steering == nullptr) return;
  std::vector<RouteEntry> running;
  for (const RouteEntry& entry : route) {
    if (definitions_.at(entry.generation)->service.backend.steering == config::Steering::kOff) {
      return outside_.steering->steer({});
    }
    if (slots_.at({entry.generation, entry.instance}).instance) running.push_back(entry);
  }
  outside_.steering->steer(running);
}

void Driver::carry_out(const action::Drain& a) {
  const bool steered =
      outside_.steering != nullptr &&
      outside_.steering->drain(a.generation, a.instance, [this, token = a.drain] { drained(token); });
  drains_[a.drain] = steered ? 2 : 1;
  data_plane_.drain(id_, a.generation, a.instance, a.drain);
}

// What was steered is the app's to close: stop_signal and KILL follow.
void Driver::carry_out(const action::Cut& a) { data_plane_.cut(id_, a.generation, a.instance, a.kind); }

void Driver::carry_out(const action::SpreadCloses& a) {
  data_plane_.spread_closes(id_, a.generation, a.kind, a.over);
}

void Driver::carry_out(const action::StopAccepting&) {
  if (outside_.steering != nullptr) outside_.steering->stop();
  data_plane_.stop_accepting(id_, [this] { accepting_stopped(); });
}

void Driver::carry_out(const action::CloseHeld&) { data_plane_.close_held(id_); }

void Driver::carry_out(const action::RolloverEnded& a) {
  const RolloverInProgress& r = a.rollover;
  Report report{r.mode, r.outcome, r.reason, r.from, r.to, monotonic_now() - r.began, unix_now_ms(), false};
  last_report_ = report;
  const GenerationNumber serves = state_.route.empty() ? 0 : state_.route.front().generation;
  tell_with_counts(describe(report, serves), std::nullopt);
  outside_.rollover_ended(report);
  const bool drains = r.outcome == Outcome::kDone && state_.find(r.from) != nullptr;
  report.drained = r.outcome == Outcome::kDone && !drains;
  std::vector<RolloverWaiter> over;
  for (auto it = rollover_waiters_.begin(); it != rollover_waiters_.end();) {
    if (it->drains != 0) {  // of an earlier one
      ++it;
    } else if (drains && it->who.until_drained) {
      it->drains = r.from;
      it->report = report;
      ++it;
    } else {
      over.push_back(std::move(it->who));
      it = rollover_waiters_.erase(it);
    }
  }
  for (const RolloverWaiter& who : over) {
    if (who.done) who.done(report);
  }
}

void Driver::carry_out(const action::WantRollover&) { outside_.want_rollover(); }

void Driver::carry_out(const action::LaunchFailed& a) {
  outside_.happened({"launch_failed",
                     state_.last_served,
                     -1,
                     "cannot start " + service_.name + ": " + first_line(a.why),
                     {{"reason", a.why}}});
  outside_.launch_failed(a.why);
}

void Driver::carry_out(const action::Note& a) {
  using Kind = action::Note::Kind;
  const bool an_end = a.kind == Kind::kDrained || a.kind == Kind::kCut || a.kind == Kind::kGenerationStopped;
  if (an_end) {
    tell_with_counts(describe(a), a.generation);
  } else {
    outside_.happened(describe(a));
  }
}

// The end of a rollover or of a generation, with what was counted until then, where HTTP is followed.
void Driver::tell_with_counts(Happening happening, std::optional<GenerationNumber> generation) const {
  if (service_.protocol != config::Protocol::kTcp) {
    add_counts(happening, data_plane_.counts(id_));
    if (generation) happening.details["generation_requests"] = std::to_string(requests(*generation));
  }
  outside_.happened(happening);
}

void Driver::carry_out(const action::Stopped&) {
  outside_.happened({"service_stopped", 0, -1, "service has stopped", {}});
}

// ---- Reports from instances
// ---------------------------------------------------------------------------------------

backend::InstanceEvents Driver::events_of(Key key) {
  backend::InstanceEvents events;
  events.ready = [this, key] { instance_ready(key); };
  events.unhealthy = [this, key](const std::string& why) {
    feed(event::InstanceUnhealthy{key.first, key.second, why});
  };
  events.healthy = [this, key] { feed(event::InstanceHealthy{key.first, key.second}); };
  events.exited = [this, key](const backend::ExitReport& report) { instance_exited(key, report); };
  events.addresses_changed = [this, key] {
    const bool routed = std::ranges::any_of(state_.route, [&key](const RouteEntry& entry) {
      return entry.generation == key.first && entry.instance == key.second;
    });
    if (routed) carry_out(action::SetRoute{state_.route});
  };
  events.told = [this, key](const std::string& type, const std::string& text) {
    outside_.happened({type, key.first, key.second, text, {{"text", text}}});
  };
  return events;
}

// The switch must not go to a generation of which a process has died unnoticed: the kernel is asked here, and
// where one has, its end comes first.
void Driver::instance_ready(Key key) {
  const Generation* g = state_.find(key.first);
  if (g != nullptr && g->state == GenerationState::kStarting) {
    for (std::size_t i = 0; i < g->instances.size(); ++i) {
      const backend::AnyInstance* sibling = instance(key.first, static_cast<InstanceIndex>(i));
      if (g->instances[i].state == InstanceState::kReady && sibling != nullptr && !sibling->alive()) {
        deferred_ready_.push_back(key);
        return;
      }
    }
  }
  if (can_be_steered(key)) feed(event::InstanceReady{key.first, key.second});
}

// One that must be and cannot be is not ready: it is killed, and the reason stands for how it ended.
bool Driver::can_be_steered(Key key) {
  Slot& slot = slots_.at(key);
  if (outside_.steering == nullptr) return true;
  const auto possible =
      outside_.steering->instance_ready(key.first, key.second, slot.instance->pid(), slot.instance->address(),
                                        definitions_.at(key.first)->service.backend.steering);
  if (possible) return true;
  slot.refusal = "backend.steering is 'on': " + possible.error().message;
  slot.instance->kill();
  return false;
}

void Driver::feed_deferred_ready() {
  for (const Key& key : std::exchange(deferred_ready_, {})) {
    if (instance(key.first, key.second) != nullptr) instance_ready(key);
  }
}

void Driver::instance_exited(Key key, const backend::ExitReport& report) {
  std::string why = report.describe();
  const Generation* g = state_.find(key.first);
  const InstanceState was = g != nullptr ? g->instances.at(key.second).state : InstanceState::kGone;
  const bool of_ours = report.pid != 0;
  if (was != InstanceState::kStopping) {
    if (of_ours && !report.signaled && report.status == 0) {
      why += "; an app must stay in the foreground (nginx: 'daemon off;', redis: 'daemonize no')";
    }
    if (const std::string words = last_words(key); !words.empty()) why += "\n" + words;
  }
  Slot& slot = slots_.at(key);
  if (!slot.refusal.empty()) why = std::exchange(slot.refusal, "");
  slot.last_end = first_line(why);
  slot.instance.reset();
  const bool on_its_way_out =
      g == nullptr || (g->state != GenerationState::kServing && g->state != GenerationState::kStarting);
  const bool wanted = !on_its_way_out && key.second < g->launch.instances;
  if (!wanted) slot.listening.reset();
  if (of_ours && on_its_way_out) data_plane_.process_ended(id_, key.first, key.second);
  feed(event::InstanceExited{key.first, key.second, std::move(why)});
  if (outside_.steering != nullptr) {
    const auto place = slots_.find(key);
    const bool socket_stays = place != slots_.end() && place->second.listening != nullptr;
    outside_.steering->instance_ended(key.first, key.second, socket_stays);
  }
  feed_deferred_ready();
}

// The last check's error and the end of standard error, as far as there are any.
std::string Driver::last_words(Key key) const {
  const backend::AnyInstance* found = instance(key.first, key.second);
  if (found == nullptr) return "";
  std::string words;
  if (const std::string error = found->last_check_error(); !error.empty()) words = "last check: " + error;
  if (std::string text = found->last_stderr(); !text.empty()) {
    while (text.ends_with('\n')) text.pop_back();
    words += (words.empty() ? "" : "\n") + std::string("standard error ends with:\n") + text;
  }
  return words;
}

// Of the first instance that is not ready though its time, or its generation's, is over.
std::string Driver::why_not_ready() const {
  const TimePoint now = monotonic_now();
  for (const Generation& g : state_.generations) {
    const bool all_due = g.state == GenerationState::kStarting && g.due && *g.due <= now;
    for (std::size_t i = 0; i < g.instances.size(); ++i) {
      const Instance& instance = g.instances[i];
      const bool due = instance.state == InstanceState::kStarting && instance.due && *instance.due <= now;
      if (instance.state == InstanceState::kReady || !(all_due || due)) continue;
      const std::string words = last_words({g.number, static_cast<InstanceIndex>(i)});
      const std::string name = all_due ? "instance " + std::to_string(i) + ": " : "";
      return name + (words.empty() ? "it has not said anything" : words);
    }
  }
  return "";
}

}  // namespace relayd::rollover
