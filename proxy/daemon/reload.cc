// A new configuration: read, planned and prepared whole before anything is touched; then all of it takes
// effect.
#include <algorithm>
#include <cerrno>

#include "proxy/backend/environment.h"
#include "proxy/base/log.h"
#include "proxy/config/loader.h"
#include "proxy/config/targets.h"
#include "proxy/daemon/daemon.h"

namespace relayd {
namespace {

template <typename Config>
auto* service_named(Config& config, const std::string& name) {
  const auto found = std::ranges::find(config.services, name, &config::Service::name);
  return found != config.services.end() ? &*found : nullptr;
}

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::ranges::find(names, name) != names.end();
}

// As systemd passes sockets, and apps expect them. Not those that somebody has already: he relies on the
// flag.
void leave_blocking(const Listeners& listeners) {
  for (const auto& listener : listeners) {
    if (listener->shared) continue;
    if (const auto done = set_nonblocking(listener->socket.get(), false); !done)
      log::warn(done.error().message, {{"listener", listener->name}});
  }
}

}  // namespace

struct Daemon::Prepared {
  config::Service service;
  Listeners opened;
};

Result<config::Config> Daemon::read_configuration() const {
  if (line_.config_file.empty()) return config_;
  config::Loaded loaded = config::load_file(line_.config_file);
  if (loaded.faults.empty()) {
    apply_overrides(line_, loaded.config);
    return std::move(loaded.config);
  }
  std::string all;
  for (const config::Fault& fault : loaded.faults) all += (all.empty() ? "" : "\n") + fault.to_string();
  return fail(std::move(all), EINVAL);
}

Result<config::Service> Daemon::newest_definition(const std::string& name) const {
  const auto newest = read_configuration();
  if (!newest) return std::unexpected(newest.error());
  const config::Service* wanted = service_named(*newest, name);
  if (wanted != nullptr) return *wanted;
  return fail("service " + name + " is no longer in " + line_.config_file +
              "; `relayctl reload` takes it out");
}

// A leaving service may still have the socket that another one takes over, as after a change of name.
Result<Listeners> Daemon::open_listeners(const config::Service& service, const HostedService* hosted) const {
  static const Listeners kNone;
  std::vector<const Listeners*> others;
  for (const auto& known : services_) others.push_back(&known->listeners);
  auto opened =
      open_new_listeners(service.listen, hosted != nullptr ? hosted->listeners : kNone, others, inherited_);
  if (opened && service.backend.address == config::AddressKind::kHandoff) leave_blocking(*opened);
  return opened;
}

// Who accepts is settled when a service is made: generations of both kinds would take clients from each
// other.
Result<void> Daemon::check_change(const HostedService& hosted, const config::Service& wanted) {
  const bool handed_over = wanted.backend.address == config::AddressKind::kHandoff;
  if (handed_over == hosted.handed_over) return {};
  return fail(
      "service " + hosted.name + ": backend.address cannot change " + (handed_over ? "to" : "from") +
          " 'handoff' while the service runs: give the service another name, and its listening sockets "
          "pass to that one, with nobody lost; or start relayd anew",
      EINVAL);
}

Result<std::vector<Daemon::Prepared>> Daemon::prepare(const config::Config& wanted, const ReloadPlan& plan,
                                                      bool all) {
  std::vector<Prepared> prepared;
  for (const config::Service& service : wanted.services) {
    const HostedService* hosted = find(service.name);
    if (hosted != nullptr) {
      if (const auto fit = check_change(*hosted, service); !fit) return std::unexpected(fit.error());
    }
    if (const auto possible = check_steering(service); !possible) return std::unexpected(possible.error());
    auto opened = open_listeners(service, hosted);
    if (!opened) return std::unexpected(opened.error());
    if (all || hosted == nullptr || contains(plan.roll_over, service.name)) {
      if (const auto fit = rollover::Driver::check_definition(service, {}); !fit)
        return std::unexpected(fit.error());
    }
    prepared.push_back({service, std::move(*opened)});
  }
  return prepared;
}

// What takes effect without a rollover.
void Daemon::commit(HostedService& hosted, const config::Service& wanted, Listeners opened) {
  for (const auto& listener : opened) {
    journal_.record(hosted.name, {"listening", 0, -1, "listens on " + listener->address.to_string(), {}});
  }
  hosted.change_listeners(*data_plane_, wanted, std::move(opened));
  hosted.driver->adjust(wanted);
  config::Service* running = service_named(config_, wanted.name);
  if (running == nullptr) return;
  // The part that processes are started with counts as running only once a generation of it serves.
  config::Service merged = wanted;
  if (starts_differently(*running, wanted)) {
    merged.backend = running->backend;
    merged.health = running->health;
    merged.proxy_protocol.send = running->proxy_protocol.send;
    if (hosted.handed_over) merged.listen = running->listen;
  }
  *running = std::move(merged);
}

// `wanted` is what the configuration says, and counts as running once a generation of it serves; other
// targets than its own stay out of that, so that a reload does not take them for a change of the file.
Result<void> Daemon::begin_rollover(HostedService& hosted, const config::Service& wanted, const Wish& wish,
                                    rollover::Driver::RolloverWaiter waiter, const Listeners& opened) {
  config::Service definition = wanted;
  if (!wish.targets.empty()) definition.backend.targets = wish.targets;
  auto sockets = hosted.public_sockets(definition, opened);
  if (!sockets) return std::unexpected(sockets.error());
  auto before = std::exchange(hosted.rolling_to, wanted);
  auto begun = hosted.driver->rollover(definition, wish.mode.value_or(wanted.rollover.mode), wish.env,
                                       std::move(waiter), std::move(*sockets));
  if (!begun) hosted.rolling_to = std::move(before);
  return begun;
}

void Daemon::rollover_ended(HostedService& hosted, const rollover::Report& report) {
  config::Service* running = service_named(config_, hosted.name);
  const std::optional<config::Service> wanted = std::exchange(hosted.rolling_to, std::nullopt);
  if (!hosted.leaving && running != nullptr && wanted) {
    if (report.outcome == rollover::Outcome::kDone) {
      running->backend = wanted->backend;
      running->health = wanted->health;
      running->proxy_protocol.send = wanted->proxy_protocol.send;
      if (hosted.handed_over) running->listen = wanted->listen;
    }
    if (hosted.handed_over) hosted.keep_listeners(running->listen);
  }
  budget_descriptors();
}

Result<void> Daemon::check_wish(const config::Service& wanted, const Wish& wish) {
  const bool has_targets = !wanted.backend.targets.empty();
  if (!wish.targets.empty() && !has_targets) {
    return fail("service " + wanted.name +
                    " has a 'command', which relayd starts itself, so that it has no targets to be replaced; "
                    "leave --target out, or write 'targets' instead of 'command' in its configuration",
                EOPNOTSUPP);
  }
  if (!wish.env.empty() && has_targets) {
    return fail("service " + wanted.name +
                    " has targets, which somebody else starts: give the variables to whoever starts them, "
                    "and leave --env out",
                EOPNOTSUPP);
  }
  if (wish.targets.empty()) return {};
  const auto fit = config::check_targets(wish.targets);
  return fit ? fit : fail(fit.error().message, EOPNOTSUPP);
}

Result<void> Daemon::rollover(HostedService& hosted, const Wish& wish,
                              std::function<void(const rollover::Report&)> done) {
  const auto wanted = newest_definition(hosted.name);
  if (!wanted) return std::unexpected(wanted.error());
  if (const auto fit = check_change(hosted, *wanted); !fit) return fit;
  if (auto possible = check_steering(*wanted); !possible) return possible;
  if (const auto fit = check_wish(*wanted, wish); !fit) return fit;
  auto opened = open_listeners(*wanted, &hosted);
  if (!opened) return std::unexpected(opened.error());
  auto begun =
      begin_rollover(hosted, *wanted, wish, {wish.ticket, wish.until_drained, std::move(done)}, *opened);
  if (!begun) return begun;
  commit(hosted, *wanted, std::move(*opened));
  // It may have failed at once.
  const config::Service* running = service_named(config_, hosted.name);
  if (hosted.handed_over && !hosted.driver->state().rollover && running != nullptr)
    hosted.keep_listeners(running->listen);
  return begun;
}

// A reload that rolls a service over for another reason leaves it at the targets that a rollover has brought,
// unless the file names others now.
std::vector<std::string> Daemon::kept_targets(const HostedService& hosted,
                                              const config::Service& wanted) const {
  const config::Service* running = service_named(config_, hosted.name);
  const bool same_in_file = running != nullptr && running->backend.targets == wanted.backend.targets;
  return same_in_file ? hosted.driver->serving_targets() : std::vector<std::string>{};
}

void Daemon::reload(bool all, std::uint64_t ticket, std::function<void(Result<ReloadSummary>)> done) {
  manager_.reloading();
  done = [this, done = std::move(done)](Result<ReloadSummary> summary) {
    manager_.ready_again();
    if (done) done(std::move(summary));
  };
  auto wanted = read_configuration();
  if (!wanted) return done(std::unexpected(wanted.error()));
  const ReloadPlan plan = plan_reload(config_, *wanted);
  for (const std::string& name : plan.roll_over) {
    const HostedService* hosted = find(name);
    if (!all && hosted != nullptr && !rollover::may_roll_over(hosted->driver->state())) {
      return done(
          fail("service " + name + " has changed, and a rollover of it is in progress; nothing was changed",
               EBUSY));
    }
  }
  auto prepared = prepare(*wanted, plan, all);
  if (!prepared) return done(std::unexpected(prepared.error()));
  if (!(wanted->log == config_.log)) {
    const auto configured = log::configure({wanted->log.level, wanted->log.format, wanted->log.file});
    if (!configured) return done(std::unexpected(configured.error()));
  }

  // From here on nothing can be refused.
  const std::uint32_t id = ++last_reload_;
  reloads_[id] = {.ticket = ticket, .summary = {plan, ""}, .done = std::move(done)};
  const auto failed = [this, id](const std::string& name, const std::string& why) {
    reloads_.at(id).summary.failures += name + ": " + why + "\n";
  };
  for (const std::string& key : plan.needs_restart) {
    const bool by_upgrade = key == "threads";
    journal_.record("warning", "'" + key + "' has changed; it takes effect when relayd is " +
                                   (by_upgrade ? "upgraded (`relayctl upgrade`), or " : "") + "started anew");
  }
  for (const std::string& name : plan.remove) remove_service(*find(name));
  std::erase_if(config_.services,
                [&plan](const config::Service& s) { return contains(plan.remove, s.name); });
  config_.log = wanted->log;
  config_.threads = wanted->threads;  // for the next image
  journal_.record("reloaded",
                  line_.config_file.empty() ? "all services are rolled over" : "read " + line_.config_file);
  for (Prepared& p : *prepared) {
    HostedService* hosted = find(p.service.name);
    if (hosted == nullptr) {
      config_.services.push_back(p.service);
      HostedService& added = add_service(p.service, std::move(p.opened));
      const std::string name = added.name;
      if (const auto started = start(added, p.service); !started) {
        failed(name, started.error().message);
        std::erase_if(config_.services, [&name](const config::Service& s) { return s.name == name; });
        remove_service(added);
      } else {
        reloads_.at(id).starting.insert(name);
        added.driver->wait_until_serving(reload_start(id, name));
      }
      continue;
    }
    Wish wish;
    if (!all) wish.targets = kept_targets(*hosted, p.service);
    commit(*hosted, p.service, std::move(p.opened));
    if (!all && !contains(plan.roll_over, hosted->name)) {
      if (contains(plan.scale, hosted->name)) hosted->driver->scale(p.service.backend.instances, nullptr);
      continue;
    }
    const std::string name = hosted->name;
    reloads_.at(id).rolling.insert(name);
    const auto taken = begin_rollover(*hosted, p.service, wish, {id, false, reload_rollover(id, name)});
    if (taken) continue;
    reloads_.at(id).rolling.erase(name);
    if (taken.error().code == EBUSY) {
      hosted->driver->rollover_later();
    } else {
      failed(name, taken.error().message);
    }
  }
  budget_descriptors();
  reloads_.at(id).begun = true;
  end_reload_if_done(id);
}

std::function<void(const rollover::Report&)> Daemon::reload_rollover(std::uint32_t id,
                                                                     const std::string& name) {
  return [this, id, name](const rollover::Report& report) {
    Reload& reload = reloads_.at(id);
    reload.rolling.erase(name);
    if (report.outcome != rollover::Outcome::kDone)
      reload.summary.failures += name + ": " + report.reason + "\n";
    end_reload_if_done(id);
  };
}

std::function<void(Result<void>)> Daemon::reload_start(std::uint32_t id, const std::string& name) {
  return [this, id, name](const Result<void>& served) {
    Reload& reload = reloads_.at(id);
    reload.starting.erase(name);
    if (!served) reload.summary.failures += name + ": " + served.error().message + "\n";
    end_reload_if_done(id);
  };
}

bool Daemon::attach_to_reload(std::uint64_t ticket, std::function<void(Result<ReloadSummary>)> done) {
  for (auto& [id, reload] : reloads_) {
    if (reload.ticket != ticket) continue;
    reload.done = [this, done = std::move(done)](Result<ReloadSummary> summary) {
      manager_.ready_again();
      done(std::move(summary));
    };
    return true;
  }
  return false;
}

void Daemon::end_reload_if_done(std::uint32_t id) {
  const Reload& reload = reloads_.at(id);
  if (!reload.begun || !reload.rolling.empty() || !reload.starting.empty()) return;
  Reload over = std::move(reloads_.extract(id).mapped());
  if (over.done) over.done(std::move(over.summary));
}

void Daemon::remove_service(HostedService& hosted) {
  hosted.leaving = true;
  journal_.record(hosted.name,
                  {"removed", 0, -1, "is no longer in the configuration: it drains and stops", {}});
  hosted.driver->stop(/*fast=*/false);
}

}  // namespace relayd
