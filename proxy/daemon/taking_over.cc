// relayd in the place of another image of it: everything is taken up first, and nothing is touched until all
// of it is there (upgrade/take_over.h).
#include <unistd.h>

#include <stdexcept>

#include "proxy/backend/child.h"
#include "proxy/base/log.h"
#include "proxy/daemon/commands.h"
#include "proxy/daemon/daemon.h"
#include "proxy/daemon/exit_codes.h"
#include "proxy/upgrade/image.h"

namespace relayd {
namespace {

CommandLine line_of(const upgrade::Record& record) {
  return {record.config, record.config_file, record.control_override, record.pid_file_override};
}

template <typename T>
T must(Result<T> result) {
  if (!result) throw std::runtime_error(result.error().message);
  if constexpr (!std::is_void_v<T>) return std::move(*result);
}

}  // namespace

Daemon::Daemon(const upgrade::Record& record)
    : keeper_(backend::Keeper::adopt(record.keeper)),
      limits_{record.nofile_soft, record.nofile_hard, descriptor_limit()},
      line_(line_of(record)),
      inherited_(InheritedSockets::adopt(record)),
      config_(record.config),
      threads_(threads_of(config_)),
      started_(record.started),
      context_{loop_, keeper_, record.runtime_directory, limits_.original_soft, limits_.original_hard},
      upgrades_(std::make_unique<Upgrades>(*this, loop_)) {}

void Daemon::take_over(const upgrade::Record& record, const std::optional<std::string>& failure) {
  control_path_ = record.control_path;
  next_id_ = static_cast<net::ServiceId>(record.next_id);
  manager_.restore(record.told_ready);
  journal_.restore(record.events, record.last_event);
  follow_journal();
  const std::uint64_t for_clients = descriptors_for_clients(limits_.now, config_, threads_);
  data_plane_ = std::make_unique<net::DataPlane>(loop_, net::Options{threads_, for_clients, &record.plane},
                                                 plane_events());
  if (record.steering) must(steering_.adopt(*record.steering));
  SocketFiles files;
  for (const upgrade::HostedRecord& service : record.services) restore_service(service, files);
  restore_connections(record.plane);
  for (std::size_t i = 0; i < services_.size(); ++i) {
    HostedService& hosted = *services_[i];
    hosted.driver->ask_again();
    hosted.empty_leaving(*data_plane_);
    if (hosted.leaving && hosted.driver->state().phase == rollover::Phase::kStopped)
      forget_service(hosted.id);
  }
  restore_reloads(record);
  upgrades_->restore(record, failure);
  if (!record.pid_file.empty()) pid_file_ = PidFile::adopt(record.pid_file);
  keeper_watch_ = std::make_unique<backend::KeeperWatch>(loop_, keeper_);
  if (backend::OrphanReaper::needed()) reaper_ = std::make_unique<backend::OrphanReaper>(loop_);
  commands_ = make_commands(*this);
  server_ = must(control::Server::restore(loop_, server_options(), record.control, *commands_));
  watch_signals();
  budget_descriptors();
  data_plane_->start();
}

void Daemon::restore_service(const upgrade::HostedRecord& record, SocketFiles& files) {
  HostedService& hosted = *services_.emplace_back(std::make_unique<HostedService>());
  hosted.name = record.name;
  hosted.id = record.id;
  for (const auto& listener : record.listeners) hosted.listeners.push_back(adopt_listener(listener, files));
  if (!record.leaving_listeners.empty()) {
    auto group = std::make_shared<Listeners>();
    for (const auto& listener : record.leaving_listeners) group->push_back(adopt_listener(listener, files));
    hosted.leaving_listeners.push_back(std::move(group));
  }
  hosted.rolling_to = record.rolling_to;
  hosted.has_served = record.has_served;
  hosted.launch_failure = record.launch_failure;
  hosted.leaving = record.leaving;
  hosted.handed_over = record.handed_over;
  make_steering(hosted);
  hosted.steering->restore(record.steering);
  hosted.driver = std::make_unique<rollover::Driver>(context_, *data_plane_, hosted.id, record.driver.service,
                                                     outside_of(hosted));
  hosted.driver->restore(record.driver);
  data_plane_->add_service(hosted.id, record.driver.service, hosted.accepting());
}

// Connections that outlive their generation count on something of their own.
void Daemon::restore_connections(const net::PlaneRecord& record) {
  std::vector<std::pair<net::EndpointRecord, std::shared_ptr<net::EndpointLoad>>> others;
  data_plane_->restore(record, [&](const net::EndpointRecord& endpoint) {
    for (const auto& hosted : services_) {
      if (hosted->id != endpoint.service) continue;
      if (auto load = hosted->driver->load_at(endpoint.generation, endpoint.instance, endpoint.address))
        return load;
    }
    for (const auto& [other, load] : others) {
      if (other.service == endpoint.service && other.generation == endpoint.generation &&
          other.instance == endpoint.instance && other.address == endpoint.address)
        return load;
    }
    return others.emplace_back(endpoint, std::make_shared<net::EndpointLoad>()).second;
  });
}

void Daemon::restore_reloads(const upgrade::Record& record) {
  last_reload_ = record.last_reload;
  for (const upgrade::ReloadRecord& saved : record.reloads) {
    Reload& reload = reloads_[saved.id];
    reload.ticket = saved.ticket;
    reload.summary = {{saved.add, saved.remove, saved.roll_over, saved.scale, saved.adjust, saved.unchanged,
                       saved.needs_restart},
                      saved.failures};
    reload.begun = true;
    if (saved.ticket == 0) {
      reload.done = [this](const Result<ReloadSummary>& s) {
        manager_.ready_again();
        tell_of_hup(s);
      };
    }
    for (const std::string& name : saved.rolling) {
      HostedService* hosted = find(name);
      if (hosted != nullptr && hosted->driver->attach(saved.id, reload_rollover(saved.id, name)))
        reload.rolling.insert(name);
    }
    reload.starting = {saved.starting.begin(), saved.starting.end()};
  }
}

int Daemon::go_on(const upgrade::Record& record) {
  data_plane_->go();
  upgrades_->end_silence();
  upgrade::make_close_on_exec(upgrade::descriptors_of(record));
  for (const pid_t stray : record.strays) backend::end_stray(keeper_, stray);
  std::uint64_t connections = 0;
  for (const auto& service : services_) connections += data_plane_->counts(service->id).active;
  // Those who waited for a service that a reload has added.
  for (const auto& [id, reload] : std::map(reloads_)) {
    for (const std::string& name : reload.starting) {
      if (HostedService* hosted = find(name)) hosted->driver->wait_until_serving(reload_start(id, name));
    }
    if (reloads_.contains(id)) end_reload_if_done(id);
  }
  server_->resume();
  if (reloads_.empty()) manager_.ready_again();
  upgrades_->conclude(connections);
  loop_.run();
  log::info("relayd has stopped", {{"exit_code", exit_code_}});
  return exit_code_;
}

int run_taken_over(const upgrade::HandedOver& handed, const std::function<void()>& before_commit) {
  upgrade::arm(handed);
  const auto bytes = upgrade::read_memory(handed.state);
  if (!bytes) upgrade::go_back(bytes.error().message.c_str());
  const auto record = upgrade::decode(*bytes);
  if (!record) upgrade::go_back(record.error().message.c_str());
  if (record->pid != 0 && record->pid != ::getpid()) upgrade::go_back("the state is another process's");
  const config::Log& log = record->config.log;
  if (const auto configured = log::configure({log.level, log.format, log.file}); !configured)
    log::warn(configured.error().message);
  // Not destroyed where something fails until commit(): what it holds goes back as it is.
  keep_open(upgrade::descriptors_of(*record));
  auto daemon = std::make_unique<Daemon>(*record);
  daemon->take_over(*record, handed.failure);
  if (before_commit) before_commit();
  upgrade::commit(handed);
  keep_open({});
  return daemon->go_on(*record);
}

}  // namespace relayd
