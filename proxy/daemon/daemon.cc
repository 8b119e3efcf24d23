#include "proxy/daemon/daemon.h"

#include <unistd.h>

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <stdexcept>

#include "proxy/backend/socket_folder.h"
#include "proxy/base/log.h"
#include "proxy/base/runtime_directory.h"
#include "proxy/config/listen.h"
#include "proxy/daemon/commands.h"
#include "proxy/daemon/exit_codes.h"

namespace relayd {
namespace {

backend::Keeper start_keeper() {
  auto keeper = backend::Keeper::start();
  if (!keeper) throw std::runtime_error(keeper.error().message);
  return std::move(*keeper);
}

// Where the control socket and the backends' sockets go.
struct Places {
  std::string control_socket;
  std::string runtime_directory;
};

Result<Places> find_places(const config::Control& control) {
  if (!control.socket.empty()) {
    const std::filesystem::path socket = std::filesystem::absolute(control.socket);
    return Places{socket.string(), socket.parent_path().string()};
  }
  const auto directory = runtime_directory(/*create=*/true);
  if (!directory) {
    return fail(directory.error().message +
                "; or name a control socket elsewhere (control.socket, --control)");
  }
  return Places{*directory + "/relayd.sock", *directory};
}

}  // namespace

Daemon::Daemon(CommandLine line, InheritedSockets inherited)
    : keeper_(start_keeper()),
      limits_(raise_descriptor_limit()),
      line_(std::move(line)),
      inherited_(std::move(inherited)),
      config_(line_.config),
      threads_(threads_of(config_)),
      started_(monotonic_now()),
      context_{loop_, keeper_, "", limits_.original_soft, limits_.original_hard},
      upgrades_(std::make_unique<Upgrades>(*this, loop_)) {}

Daemon::~Daemon() {
  server_.reset();
  commands_.reset();
  upgrades_.reset();
  for (const auto& service : services_) service->driver.reset();
  data_plane_.reset();
  services_.clear();
  reaper_.reset();
  keeper_watch_.reset();
  signals_.clear();
  if (!loop_.close()) log::warn("a handle of the main loop was left open: please report this as a bug");
}

int Daemon::run() {
  follow_journal();
  for (const config::Service& service : config_.services) {
    if (const auto fit = rollover::Driver::check_definition(service, {}); !fit) {
      log::error(fit.error().message, {{"service", service.name}});
      return kExitUsage;
    }
  }
  if (const auto started = bind_and_start(); !started) {
    log::error(started.error().message);
    return exit_code_ != 0 ? exit_code_ : kExitStart;
  }
  loop_.run();
  log::info("relayd has stopped", {{"exit_code", exit_code_}});
  return exit_code_;
}

Result<void> Daemon::bind_and_start() {
  const auto places = find_places(config_.control);
  if (!places) return std::unexpected(places.error());
  context_.runtime_directory = places->runtime_directory;
  std::vector<Listeners> opened;
  for (const config::Service& service : config_.services) {
    if (auto possible = check_steering(service); !possible) return possible;
    auto listeners = open_listeners(service, nullptr);
    if (!listeners) return std::unexpected(listeners.error());
    opened.push_back(std::move(*listeners));
  }
  const std::uint64_t for_clients = descriptors_for_clients(limits_.now, config_, threads_);
  data_plane_ =
      std::make_unique<net::DataPlane>(loop_, net::Options{threads_, for_clients, nullptr}, plane_events());
  commands_ = make_commands(*this);
  control_path_ = places->control_socket;
  auto server = control::Server::start(loop_, server_options(), *commands_);
  if (!server) return std::unexpected(server.error());
  server_ = std::move(*server);
  backend::remove_stale_folders(
      context_.runtime_directory);  // nobody else uses it: the control socket is ours
  if (!config_.pid_file.empty()) {
    auto pid_file = PidFile::write(config_.pid_file);
    if (!pid_file) {
      exit_code_ = kExitUsage;
      return std::unexpected(pid_file.error());
    }
    pid_file_ = std::move(*pid_file);
  }
  keeper_watch_ = std::make_unique<backend::KeeperWatch>(loop_, keeper_);
  if (backend::OrphanReaper::needed()) reaper_ = std::make_unique<backend::OrphanReaper>(loop_);
  watch_signals();
  journal_.record("started", "relayd " + std::to_string(::getpid()) + " runs with " +
                                 std::to_string(threads_) + " threads; clients and backends may use " +
                                 std::to_string(for_clients) + " descriptors; control socket " +
                                 places->control_socket);
  for (std::size_t i = 0; i < opened.size(); ++i) {
    add_service(config_.services[i], std::move(opened[i]));
  }
  // Only now: one that cannot be started does not decide for those that have not been tried.
  for (std::size_t i = 0; i < services_.size(); ++i) {
    if (const auto started = start(*services_[i], config_.services[i]); !started)
      return std::unexpected(started.error());
  }
  warn_of_unused_sockets();
  return {};
}

void Daemon::follow_journal() {
  journal_.follow([this](const control::Event& event) {
    if (server_) server_->publish(event);
  });
}

net::Events Daemon::plane_events() {
  net::Events events;
  events.drained = [this](net::ServiceId id, std::uint64_t token) {
    for (const auto& service : services_) {
      if (service->id == id && service->driver) return service->driver->drained(token);
    }
  };
  return events;
}

control::ServerOptions Daemon::server_options() const {
  control::ServerOptions options;
  options.socket_path = control_path_;
  options.mode = config_.control.mode;
  options.group = config_.control.group;
  return options;
}

Result<void> Daemon::start(HostedService& hosted, const config::Service& service) {
  auto sockets = hosted.public_sockets(service);
  if (!sockets) return std::unexpected(sockets.error());
  return hosted.driver->start(std::move(*sockets));
}

// Their clients would wait for ever, as nobody refuses them.
void Daemon::warn_of_unused_sockets() {
  for (const std::string& name : inherited_.names()) {
    const std::string entry = std::string(config::kInherited) + name;
    const bool used = std::ranges::any_of(config_.services, [&entry](const config::Service& service) {
      return std::ranges::find(service.listen, entry) != service.listen.end();
    });
    if (used) continue;
    journal_.record("warning", "a socket was passed to relayd under the name '" + name +
                                   "', and no service listens on it: add 'listen: [\"" + entry +
                                   "\"]' to one, or take it out of the .socket unit");
  }
}

HostedService& Daemon::add_service(const config::Service& service, Listeners listeners) {
  auto hosted = std::make_unique<HostedService>();
  HostedService& added = *hosted;
  added.name = service.name;
  added.id = next_id_++;
  added.listeners = std::move(listeners);
  added.handed_over = service.backend.address == config::AddressKind::kHandoff;
  make_steering(added);
  added.steering->set_addresses(added.accepting());
  added.driver =
      std::make_unique<rollover::Driver>(context_, *data_plane_, added.id, service, outside_of(added));
  services_.push_back(std::move(hosted));
  data_plane_->add_service(added.id, service, added.accepting());
  for (const auto& listener : added.listeners) {
    journal_.record(added.name, {"listening", 0, -1, "listens on " + listener->address.to_string(), {}});
  }
  return added;
}

void Daemon::make_steering(HostedService& hosted) {
  hosted.steering = std::make_unique<SteeredService>(
      loop_, steering_, *data_plane_, hosted.id,
      [this, &hosted](const rollover::Happening& h) { journal_.record(hosted.name, h); });
}

rollover::Driver::Outside Daemon::outside_of(HostedService& service) {
  rollover::Driver::Outside outside;
  outside.happened = [this, &service](const rollover::Happening& h) { journal_.record(service.name, h); };
  outside.rollover_ended = [this, &service](const rollover::Report& r) { rollover_ended(service, r); };
  outside.want_rollover = [this, &service] {
    if (const auto taken = rollover(service, {}, nullptr); !taken) {
      journal_.record("reload_failed",
                      "the remembered rollover of " + service.name + ": " + taken.error().message);
    }
  };
  outside.launch_failed = [this, &service](const std::string& why) { launch_failed(service, why); };
  outside.route_changed = [this, &service] {
    service.has_served |= !service.driver->holding();
    if (std::ranges::all_of(services_, [](const auto& s) { return s->has_served; })) manager_.ready();
  };
  outside.accepting_stopped = [&service] { service.listeners.clear(); };
  outside.stopped = [this, id = service.id] { service_stopped(id); };
  outside.steering = service.steering.get();
  return outside;
}

Result<void> Daemon::check_steering(const config::Service& service) {
  if (service.backend.steering != config::Steering::kOn) return {};
  const auto attached = steering_.attach();
  if (attached) return {};
  return fail("service " + service.name + " has 'steering: on': " + attached.error().message +
                  "; 'steering: auto' forwards instead",
              attached.error().code);
}

void Daemon::budget_descriptors() {
  config::Config running;
  for (const auto& service : services_) {
    config::Service& counted = running.services.emplace_back(service->driver->service());
    counted.backend.instances = service->driver->wanted_instances();
  }
  data_plane_->set_max_descriptors(descriptors_for_clients(limits_.now, running, threads_));
}

HostedService* Daemon::find(const std::string& name) {
  const auto found = std::ranges::find_if(
      services_, [&name](const auto& service) { return service->name == name && !service->leaving; });
  return found != services_.end() ? found->get() : nullptr;
}

// With nothing that ever served and no service left to hope for, relayd is of no use: it says why, and ends.
void Daemon::launch_failed(HostedService& service, const std::string& why) {
  if (service.launch_failure.empty()) service.launch_failure = why;
  const bool hopeless = std::ranges::all_of(
      services_, [](const auto& s) { return !s->has_served && !s->launch_failure.empty(); });
  if (!hopeless || stopping_) return;
  log::error("no generation of any service could be started; relayd gives up");
  exit_code_ = kExitStart;
  stop(/*fast=*/true);
}

void Daemon::stop(bool fast) {
  if (!stopping_) journal_.record("stopping", fast ? "relayd stops, fast" : "relayd drains and stops");
  if (!stopping_) manager_.stopping();
  stopping_ = true;
  stops_fast_ = stops_fast_ || fast;
  upgrades_->refuse_all();
  for (const auto& service : services_) service->driver->stop(fast);
  end_if_all_stopped();
}

void Daemon::service_stopped(net::ServiceId id) {
  const auto found = std::ranges::find_if(services_, [id](const auto& service) { return service->id == id; });
  if (found == services_.end()) return;
  if (stopping_) {
    end_if_all_stopped();
    return;
  }
  forget_service(id);
}

// Taken out by a reload. The answer comes from the loop, so the driver is not destroyed inside its own call.
void Daemon::forget_service(net::ServiceId id) {
  data_plane_->finish_ends(id, [this, id] {
    data_plane_->remove_service(id, [this, id] {
      std::erase_if(services_, [id](const auto& service) { return service->id == id; });
    });
  });
}

void Daemon::end_if_all_stopped() {
  const bool all = std::ranges::all_of(services_, [](const auto& service) {
    return service->driver->state().phase == rollover::Phase::kStopped;
  });
  if (!all) return;
  if (stops_fast_ || services_.empty()) {
    loop_.stop();
    return;
  }
  if (std::exchange(ending_, true)) return;
  const auto left = std::make_shared<std::size_t>(services_.size());
  for (const auto& service : services_) {
    data_plane_->finish_ends(service->id, [this, left] {
      if (--*left == 0) loop_.stop();
    });
  }
}

int run_daemon(CommandLine line, InheritedSockets inherited) {
  log::Options options{line.config.log.level, line.config.log.format, line.config.log.file};
  if (const auto configured = log::configure(options); !configured) {
    log::error(configured.error().message);
    return kExitUsage;
  }
  Daemon daemon(std::move(line), std::move(inherited));
  return daemon.run();
}

}  // namespace relayd
