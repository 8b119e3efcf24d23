#pragma once

#include "control/protocol/json.h"

// Which members each message has on the wire, once, for reading and for writing: a visitor is called with the
// key and the member. Keys are added at the end and never renamed. Private to the protocol's .cc files.
namespace relayd::control {

// A null pointer says which list is meant; `m` is the message, const where it is written.
#define RELAYD_M(key) visit(#key, m.key)

template <typename V, typename M>
void members(V& visit, M& m, const InstanceStatus*) {
  RELAYD_M(index), RELAYD_M(state), RELAYD_M(pid), RELAYD_M(address), RELAYD_M(restarts),
      RELAYD_M(connections);
  RELAYD_M(connections_total), RELAYD_M(note), RELAYD_M(requests), RELAYD_M(target), RELAYD_M(addresses);
}
template <typename V, typename M>
void members(V& visit, M& m, const GenerationStatus*) {
  RELAYD_M(number), RELAYD_M(state), RELAYD_M(age_ms), RELAYD_M(connections), RELAYD_M(cut_in_ms);
  RELAYD_M(ready_in_ms), RELAYD_M(instances), RELAYD_M(requests);
}
template <typename V, typename M>
void members(V& visit, M& m, const LastRollover*) {
  RELAYD_M(mode), RELAYD_M(result), RELAYD_M(reason), RELAYD_M(from), RELAYD_M(to), RELAYD_M(duration_ms);
  RELAYD_M(ended_unix_ms);
}
template <typename V, typename M>
void members(V& visit, M& m, const ServiceStatus*) {
  RELAYD_M(name), RELAYD_M(phase), RELAYD_M(mode), RELAYD_M(holding), RELAYD_M(listen), RELAYD_M(generation);
  RELAYD_M(data_path), RELAYD_M(generations), RELAYD_M(instances), RELAYD_M(rollover), RELAYD_M(rollover_ms),
      RELAYD_M(last_rollover);
  RELAYD_M(accepted), RELAYD_M(active), RELAYD_M(held), RELAYD_M(held_total), RELAYD_M(hold_timeouts);
  RELAYD_M(connect_failures), RELAYD_M(cut), RELAYD_M(bytes_in), RELAYD_M(bytes_out), RELAYD_M(proxy_refused);
  RELAYD_M(requests), RELAYD_M(crossings), RELAYD_M(sent_again), RELAYD_M(answered), RELAYD_M(steering),
      RELAYD_M(steered);
}
template <typename V, typename M>
void members(V& visit, M& m, const StatusReport*) {
  RELAYD_M(version), RELAYD_M(pid), RELAYD_M(uptime_ms), RELAYD_M(threads), RELAYD_M(config_file),
      RELAYD_M(services), RELAYD_M(upgrades);
}
template <typename V, typename M>
void members(V& visit, M& m, const RolloverResult*) {
  RELAYD_M(service), RELAYD_M(mode), RELAYD_M(result), RELAYD_M(reason), RELAYD_M(from), RELAYD_M(to);
  RELAYD_M(duration_ms), RELAYD_M(drained), RELAYD_M(plan);
}
template <typename V, typename M>
void members(V& visit, M& m, const ReloadResult*) {
  RELAYD_M(rolled_over), RELAYD_M(added), RELAYD_M(removed), RELAYD_M(adjusted), RELAYD_M(unchanged);
  RELAYD_M(needs_restart);
}
template <typename V, typename M>
void members(V& visit, M& m, const UpgradeResult*) {
  RELAYD_M(from_version), RELAYD_M(to_version), RELAYD_M(binary), RELAYD_M(pid), RELAYD_M(connections);
  RELAYD_M(silence_ms);
}
template <typename V, typename M>
void members(V& visit, M& m, const ConnectionEntry*) {
  RELAYD_M(service), RELAYD_M(id), RELAYD_M(client), RELAYD_M(generation), RELAYD_M(instance),
      RELAYD_M(state);
  RELAYD_M(age_ms), RELAYD_M(idle_ms), RELAYD_M(bytes_in), RELAYD_M(bytes_out);
}
template <typename V, typename M>
void members(V& visit, M& m, const ConnectionList*) {
  RELAYD_M(connections);
}
template <typename V, typename M>
void members(V& visit, M& m, const Event*) {
  RELAYD_M(sequence), RELAYD_M(unix_ms), RELAYD_M(service), RELAYD_M(type), RELAYD_M(generation),
      RELAYD_M(instance);
  RELAYD_M(message), RELAYD_M(details);
}
template <typename V, typename M>
void members(V& visit, M& m, const EventList*) {
  RELAYD_M(events);
}
template <typename V, typename M>
void members(V& visit, M& m, const Done*) {
  RELAYD_M(message);
}
template <typename V, typename M>
void members(V& visit, M& m, const VersionInfo*) {
  RELAYD_M(name), RELAYD_M(version), RELAYD_M(protocol), RELAYD_M(pid);
}
template <typename V, typename M>
void members(V& visit, M& m, const Subscribed*) {
  RELAYD_M(service), RELAYD_M(replayed);
}

// The parameters of each method.
template <typename V, typename M>
void members(V& visit, M& m, const StatusCall*) {
  RELAYD_M(service);
}
template <typename V, typename M>
void members(V& visit, M& m, const AbortCall*) {
  RELAYD_M(service);
}
template <typename V, typename M>
void members(V& visit, M& m, const PauseCall*) {
  RELAYD_M(service);
}
template <typename V, typename M>
void members(V& visit, M& m, const ResumeCall*) {
  RELAYD_M(service);
}
template <typename V, typename M>
void members(V& visit, M& m, const ScaleCall*) {
  RELAYD_M(service), RELAYD_M(instances);
}
template <typename V, typename M>
void members(V&, M&, const ReloadCall*) {}
template <typename V, typename M>
void members(V& visit, M& m, const ConnectionsCall*) {
  RELAYD_M(service), RELAYD_M(generation);
}
template <typename V, typename M>
void members(V& visit, M& m, const SubscribeCall*) {
  RELAYD_M(service), RELAYD_M(since), RELAYD_M(recent);
}
template <typename V, typename M>
void members(V& visit, M& m, const RecentCall*) {
  RELAYD_M(service), RELAYD_M(since), RELAYD_M(recent);
}
template <typename V, typename M>
void members(V& visit, M& m, const StopCall*) {
  RELAYD_M(now);
}
template <typename V, typename M>
void members(V& visit, M& m, const UpgradeCall*) {
  visit.path("binary", m.binary);
}
template <typename V, typename M>
void members(V&, M&, const VersionCall*) {}
template <typename V, typename M>
void members(V& visit, M& m, const RolloverCall*) {
  RELAYD_M(service), RELAYD_M(mode), RELAYD_M(env), RELAYD_M(dry_run), RELAYD_M(targets);
  visit.until(m.until_drained);
}

#undef RELAYD_M

}  // namespace relayd::control
