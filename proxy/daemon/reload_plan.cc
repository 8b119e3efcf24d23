#include "proxy/daemon/reload_plan.h"

#include <algorithm>

namespace relayd {
namespace {

const config::Service* find(const config::Config& config, const std::string& name) {
  const auto found = std::ranges::find(config.services, name, &config::Service::name);
  return found == config.services.end() ? nullptr : &*found;
}

// The service without what takes effect in place.
config::Service launch_part(config::Service service) {
  const config::Service defaults;
  if (service.backend.address != config::AddressKind::kHandoff) service.listen.clear();
  service.proxy_protocol.accept = defaults.proxy_protocol.accept;
  service.transparent = defaults.transparent;
  service.limits = defaults.limits;
  service.hold = defaults.hold;
  service.rollover = defaults.rollover;
  service.backend.instances = defaults.backend.instances;
  service.backend.balance = defaults.backend.balance;
  service.backend.restart_delay = defaults.backend.restart_delay;
  service.backend.kill_timeout = defaults.backend.kill_timeout;
  service.health.ready_timeout = defaults.health.ready_timeout;
  return service;
}

}  // namespace

bool starts_differently(const config::Service& running, const config::Service& wanted) {
  return launch_part(running) != launch_part(wanted);
}

ReloadPlan plan_reload(const config::Config& running, const config::Config& wanted) {
  ReloadPlan plan;
  for (const config::Service& service : wanted.services) {
    const config::Service* old = find(running, service.name);
    if (old == nullptr) {
      plan.add.push_back(service.name);
    } else if (*old == service) {
      plan.unchanged.push_back(service.name);
    } else if (starts_differently(*old, service)) {
      plan.roll_over.push_back(service.name);
    } else {
      if (old->backend.instances != service.backend.instances) plan.scale.push_back(service.name);
      plan.adjust.push_back(service.name);
    }
  }
  for (const config::Service& service : running.services) {
    if (find(wanted, service.name) == nullptr) plan.remove.push_back(service.name);
  }
  if (!(running.control == wanted.control)) plan.needs_restart.push_back("control");
  if (running.admin_listen != wanted.admin_listen) plan.needs_restart.push_back("admin");
  if (running.pid_file != wanted.pid_file) plan.needs_restart.push_back("pid_file");
  if (running.threads != wanted.threads) plan.needs_restart.push_back("threads");
  return plan;
}

}  // namespace relayd
