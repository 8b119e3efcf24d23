#include "proxy/daemon/status.h"

#include <algorithm>

#include "proxy/config/loader.h"

namespace relayd {
namespace {

using rollover::Phase;

std::int64_t ms_until(TimePoint due) { return std::max<std::int64_t>(0, (due - monotonic_now()).count()); }

// As PROTOCOL.md lists them.
std::string phase_name(const HostedService& service, const rollover::State& state) {
  switch (state.phase) {
    case Phase::kPhasedStart:
    case Phase::kReplacing:
    case Phase::kHotStart:
      return "rolling over";
    case Phase::kEmptying:
      return state.rollover ? "rolling over" : "starting";
    case Phase::kReplacingBack:
    case Phase::kRestoring:
      return "restoring";
    case Phase::kServing:
      if (!state.route.empty()) return "serving";
      return service.has_served && state.serving() != nullptr && state.serving()->was_ready ? "down"
                                                                                            : "starting";
    default:
      return to_string(state.phase);
  }
}

control::InstanceStatus instance_status(const rollover::Driver& driver, rollover::GenerationNumber generation,
                                        rollover::InstanceIndex index, const rollover::Instance& state) {
  control::InstanceStatus status;
  status.index = index;
  status.state = to_string(state.state);
  status.restarts = state.restarts;
  if (const backend::AnyInstance* instance = driver.instance(generation, index)) {
    status.pid = instance->pid();
    for (const SocketAddress& address : instance->addresses())
      status.addresses.push_back(address.to_string());
    status.address = status.addresses.empty() ? instance->target() : status.addresses.front();
    status.target = instance->target();
    const bool ready = state.state == rollover::InstanceState::kReady;
    status.note = ready ? instance->status_text() : instance->last_check_error();
  } else if (state.state == rollover::InstanceState::kWaiting) {
    status.note = driver.last_end(generation, index);
    if (state.due)
      status.note += "; started again in " + config::format_duration(Duration(ms_until(*state.due)));
  }
  const rollover::InstanceLoads::Counts counts = driver.load(generation, index);
  status.connections = counts.active + driver.steered(generation, index);
  status.connections_total = counts.connections;
  status.requests = counts.requests;
  return status;
}

control::GenerationStatus generation_status(const rollover::Driver& driver, const rollover::Generation& g) {
  control::GenerationStatus status;
  status.number = g.number;
  // The role without having been ready yet: for people, it starts.
  const bool not_yet = g.state == rollover::GenerationState::kServing && !g.was_ready && driver.holding();
  status.state = not_yet ? "starting" : to_string(g.state);
  status.age_ms = (monotonic_now() - g.began).count();
  status.connections = driver.connections(g.number);
  status.requests = driver.requests(g.number);
  if (g.due && g.state == rollover::GenerationState::kDraining) status.cut_in_ms = ms_until(*g.due);
  if (g.due && g.state == rollover::GenerationState::kStarting) status.ready_in_ms = ms_until(*g.due);
  for (std::size_t i = 0; i < g.instances.size(); ++i) {
    const auto index = static_cast<rollover::InstanceIndex>(i);
    status.instances.push_back(instance_status(driver, g.number, index, g.instances[i]));
  }
  return status;
}

void fill_counts(control::ServiceStatus& status, const net::ServiceCounts& counts) {
  status.accepted = counts.accepted;
  status.active = counts.active;
  status.held = counts.held;
  status.held_total = counts.held_total;
  status.hold_timeouts = counts.hold_timeouts;
  status.connect_failures = counts.connect_failures;
  status.cut = counts.cut;
  status.bytes_in = counts.bytes_in;
  status.bytes_out = counts.bytes_out;
  status.proxy_refused = counts.proxy_refused;
  status.requests = counts.requests;
  status.crossings = counts.crossings;
  status.sent_again = counts.sent_again;
  status.answered = counts.answered;
}

}  // namespace

control::ServiceStatus status_of(const HostedService& service, net::DataPlane& data_plane) {
  const rollover::Driver& driver = *service.driver;
  const rollover::State& state = driver.state();
  control::ServiceStatus status;
  status.name = service.name;
  status.phase = phase_name(service, state);
  status.mode = config::to_string(driver.service().rollover.mode);
  status.holding = driver.holding();
  status.data_path = service.handed_over ? "app" : "relayd";
  for (const auto& listener : service.listeners) status.listen.push_back(listener->address.to_string());
  if (!state.route.empty()) status.generation = state.route.front().generation;
  for (auto g = state.generations.rbegin(); g != state.generations.rend(); ++g) {
    status.generations.push_back(generation_status(driver, *g));
  }
  status.instances = driver.wanted_instances();
  if (state.rollover) {
    status.rollover = config::to_string(state.rollover->mode);
    status.rollover_ms = (monotonic_now() - state.rollover->began).count();
  }
  if (const auto& last = driver.last_report()) {
    status.last_rollover = control::LastRollover{
        config::to_string(last->mode), to_string(last->outcome), last->reason, last->from, last->to,
        last->duration.count(),        last->ended_unix_ms};
  }
  fill_counts(status, data_plane.counts(service.id));
  status.steering = service.steering->state();
  for (const rollover::Generation& g : state.generations) status.steered += driver.steered(g.number, -1);
  return status;
}

}  // namespace relayd
