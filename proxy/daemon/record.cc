// All of relayd as plain data, for the image that takes its place.
#include <unistd.h>

#include <algorithm>

#include "proxy/backend/own_children.h"
#include "proxy/daemon/daemon.h"
#include "proxy/upgrade/image.h"

namespace relayd {
namespace {

upgrade::HostedRecord record_of(const HostedService& hosted) {
  upgrade::HostedRecord record;
  record.name = hosted.name;
  record.id = hosted.id;
  for (const auto& listener : hosted.listeners) record.listeners.push_back(record_of(*listener));
  for (const auto& group : hosted.leaving_listeners) {
    for (const auto& listener : *group) record.leaving_listeners.push_back(record_of(*listener));
  }
  record.steering = hosted.steering->save();
  record.driver = hosted.driver->save();
  record.rolling_to = hosted.rolling_to;
  record.has_served = hosted.has_served;
  record.launch_failure = hosted.launch_failure;
  record.leaving = hosted.leaving;
  record.handed_over = hosted.handed_over;
  return record;
}

// Processes that nothing in the record stands for: checks by command, and what was killed and has not ended.
std::vector<pid_t> strays_of(const upgrade::Record& record) {
  std::vector<pid_t> strays = backend::own_children::all();
  std::erase(strays, record.keeper.pid);
  for (const upgrade::HostedRecord& service : record.services) {
    for (const rollover::SlotRecord& slot : service.driver.slots) {
      if (slot.instance && slot.instance->process) std::erase(strays, slot.instance->process->pid);
    }
  }
  return strays;
}

// In a rehearsal the data plane has told of itself a moment ago: what has come or gone since is left out.
void agree(upgrade::Record& record) {
  const auto hosted = [&record](net::ServiceId id) {
    return std::ranges::find(record.services, id, &upgrade::HostedRecord::id) != record.services.end();
  };
  const auto relayed = [&record](net::ServiceId id) {
    return std::ranges::find(record.plane.services, id, &net::ServiceRecord::id) !=
           record.plane.services.end();
  };
  std::erase_if(record.services, [&](const auto& service) { return !relayed(service.id); });
  std::erase_if(record.plane.services, [&](const auto& service) { return !hosted(service.id); });
  for (net::WorkerRecord& worker : record.plane.workers) {
    std::erase_if(worker.connections, [&](const auto& c) { return !relayed(c.connection.service); });
    for (net::EndpointRecord& endpoint : worker.endpoints) {  // connections know them by their places
      if (!relayed(endpoint.service) && !record.plane.services.empty())
        endpoint.service = record.plane.services.front().id;
    }
    std::erase_if(worker.sweeps, [&](const auto& sweep) { return !relayed(sweep.service); });
    std::erase_if(worker.spreads, [&](const auto& spread) { return !relayed(spread.service); });
  }
}

}  // namespace

upgrade::Record Daemon::save(net::PlaneRecord plane) const {
  upgrade::Record record;
  record.config = config_;
  upgrades_->save(record);
  record.pid = ::getpid();
  record.capabilities = upgrade::capabilities();
  record.config_file = line_.config_file;
  record.control_override = line_.control_socket;
  record.pid_file_override = line_.pid_file;
  record.control_path = control_path_;
  record.runtime_directory = context_.runtime_directory;
  record.pid_file = pid_file_.path();
  record.nofile_soft = limits_.original_soft;
  record.nofile_hard = limits_.original_hard;
  record.started = started_;
  record.next_id = next_id_;
  record.told_ready = manager_.told_ready();
  inherited_.save(record);
  record.keeper = keeper_.save();
  record.plane = std::move(plane);
  if (steering_.attached()) record.steering = steering_.save();
  for (const auto& service : services_) record.services.push_back(record_of(*service));
  agree(record);
  // Other workers do not go on with the epoll sets of these, which end with this image then.
  if (threads_of(record.config) != record.plane.workers.size()) {
    for (net::WorkerRecord& worker : record.plane.workers) worker.epoll = -1;
  }
  record.events.assign(journal_.events().begin(), journal_.events().end());
  record.last_event = journal_.last_sequence();
  for (const auto& [id, reload] : reloads_) {
    const ReloadPlan& plan = reload.summary.plan;
    record.reloads.push_back({id,
                              reload.ticket,
                              plan.add,
                              plan.remove,
                              plan.roll_over,
                              plan.scale,
                              plan.adjust,
                              plan.unchanged,
                              plan.needs_restart,
                              reload.summary.failures,
                              {reload.rolling.begin(), reload.rolling.end()},
                              {reload.starting.begin(), reload.starting.end()}});
  }
  record.last_reload = last_reload_;
  record.control = server_->save();
  record.strays = strays_of(record);
  return record;
}

}  // namespace relayd
