// What is steered, over an upgrade of relayd: the program and its maps stay as they are.
#include "proxy/daemon/steered_service.h"

namespace relayd {

Result<void> SteeringProgram::adopt(const steering::SwitchRecord& record) {
  auto sockets = steering::SocketList::open();
  if (!sockets) return std::unexpected(sockets.error());
  auto adopted = steering::Switch::adopt(record);
  if (!adopted) return std::unexpected(adopted.error());
  sockets_.emplace(std::move(*sockets));
  switch_ = std::move(*adopted);
  return {};
}

upgrade::SteeredRecord SteeredService::save() const {
  upgrade::SteeredRecord record;
  record.addresses = addresses_;
  record.ports = ports_;
  record.service = service_;
  for (const auto& [key, process] : processes_) {
    auto& saved = record.processes.emplace_back();
    saved.key = key;
    saved.group = process.group;
    saved.address = process.address;
    for (const auto& listener : process.listeners) saved.listeners.push_back(steering::record_of(listener));
  }
  record.route = route_;
  record.asked = asked_;
  record.steered = steered_;
  record.stopped = stopped_;
  record.why_not = why_not_;
  record.warned_of = warned_of_;
  orphans_.save(record);
  return record;
}

void SteeredService::restore(const upgrade::SteeredRecord& record) {
  addresses_ = record.addresses;
  ports_ = record.ports;
  service_ = record.service;
  for (const auto& saved : record.processes) {
    Process& process = processes_[saved.key];
    process.group = saved.group;
    process.address = saved.address;
    for (const auto& listener : saved.listeners)
      process.listeners.push_back(steering::found_listener(listener));
  }
  route_ = record.route;
  asked_ = record.asked;
  steered_ = record.steered;
  stopped_ = record.stopped;
  why_not_ = record.why_not;
  warned_of_ = record.warned_of;
  orphans_.restore(record);
  arm();
}

}  // namespace relayd
