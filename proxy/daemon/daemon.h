#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "control/server/server.h"
#include "proxy/backend/keeper.h"
#include "proxy/backend/keeper_watch.h"
#include "proxy/backend/reaper.h"
#include "proxy/base/loop.h"
#include "proxy/daemon/command_line.h"
#include "proxy/daemon/descriptor_limits.h"
#include "proxy/daemon/hosted_service.h"
#include "proxy/daemon/inherited_sockets.h"
#include "proxy/daemon/journal.h"
#include "proxy/daemon/pid_file.h"
#include "proxy/daemon/reload_plan.h"
#include "proxy/daemon/service_manager.h"
#include "proxy/daemon/upgrades.h"
#include "proxy/upgrade/record.h"
#include "proxy/upgrade/take_over.h"

namespace relayd {

// relayd as a whole: builds the parts, wires them, owns them. Everything here runs on the main thread.
class Daemon {
 public:
  Daemon(CommandLine line, InheritedSockets inherited);
  // In the place of another image, whose descriptors it owns from here on; to be followed by take_over().
  explicit Daemon(const upgrade::Record& record);
  ~Daemon();
  Daemon(const Daemon&) = delete;
  Daemon& operator=(const Daemon&) = delete;

  // Binds, starts the workers, the control socket and the first generations; runs until stopped. The exit
  // code.
  int run();

  // ---- For an upgrade of relayd (record.cc, taking_over.cc) ----

  // `plane`: what the data plane has told of itself. Changes nothing.
  upgrade::Record save(net::PlaneRecord plane) const;
  // Takes up what the record says, and touches nothing of it yet. `failure`: of the image that was to take
  // this one's place. Throws std::runtime_error.
  void take_over(const upgrade::Record& record, const std::optional<std::string>& failure);
  // After upgrade::commit(): works until stopped. The exit code.
  int go_on(const upgrade::Record& record);
  Upgrades& upgrades() { return *upgrades_; }
  backend::Keeper& keeper() { return keeper_; }
  ServiceManager& manager() { return manager_; }

  // ---- For the commands of the control socket and for signals ----

  // The running configuration's newest reading: the file as it is now, or what the command line said.
  Result<config::Config> read_configuration() const;
  // One service of it.
  Result<config::Service> newest_definition(const std::string& name) const;
  // How many descriptors clients may use changes with the number of services and instances.
  void budget_descriptors();
  // What a rollover was asked for, beyond the newest configuration of its service.
  struct Wish {
    std::optional<config::Mode> mode;
    std::map<std::string, std::string> env;
    bool until_drained = false;
    std::vector<std::string> targets;  // instead of the configured ones
    std::uint64_t ticket = 0;          // of who waits (rollover::Driver::RolloverWaiter)
  };
  // Rolls one service over to its newest configuration; refusals are returned (EBUSY: another is in
  // progress).
  Result<void> rollover(HostedService& service, const Wish& wish,
                        std::function<void(const rollover::Report&)> done);
  // EOPNOTSUPP where what is wished does not fit the service.
  static Result<void> check_wish(const config::Service& wanted, const Wish& wish);
  struct ReloadSummary {
    ReloadPlan plan;
    std::string failures;  // of the rollovers; empty: all done
  };
  // Plans first, then does all or nothing. `all`: every service is rolled over (HUP), and one that is busy is
  // asked to once more when it is done; else only what changed, and a busy one refuses the whole (EBUSY).
  // `ticket`: of who waits for it, 0 where nobody does over an upgrade of relayd.
  void reload(bool all, std::uint64_t ticket, std::function<void(Result<ReloadSummary>)> done);
  // Whoever has asked a former image for a reload that is in progress; false: nobody has by this ticket.
  bool attach_to_reload(std::uint64_t ticket, std::function<void(Result<ReloadSummary>)> done);
  // What HUP has come to.
  void look_after_control_socket();
  void tell_of_hup(const Result<ReloadSummary>& summary);
  void stop(bool fast);
  bool stopping() const { return stopping_; }

  HostedService* find(const std::string& name);
  const std::vector<std::unique_ptr<HostedService>>& services() const { return services_; }
  net::DataPlane& data_plane() { return *data_plane_; }
  Journal& journal() { return journal_; }
  const std::string& config_file() const { return line_.config_file; }
  unsigned threads() const { return threads_; }
  Duration uptime() const { return monotonic_now() - started_; }
  const DescriptorLimits& descriptor_limits() const { return limits_; }

 private:
  // A reload that has begun, until the last of its rollovers has ended.
  struct Reload {
    std::uint64_t ticket = 0;
    ReloadSummary summary;
    std::set<std::string> rolling =
        {};  // services whose rollovers are awaited, by the reload's number as ticket
    std::set<std::string> starting = {};  // new services that are to serve
    bool begun = false;                   // all of them are
    std::function<void(Result<ReloadSummary>)> done;
  };
  struct Prepared;  // a service of a new configuration, checked and with its new sockets open

  Result<void> bind_and_start();
  void follow_journal();
  net::Events plane_events();
  control::ServerOptions server_options() const;
  void make_steering(HostedService& hosted);
  void restore_service(const upgrade::HostedRecord& record, SocketFiles& files);
  void restore_connections(const net::PlaneRecord& record);
  void restore_reloads(const upgrade::Record& record);
  void forget_service(net::ServiceId id);
  void watch_signals();
  void on_winch();
  void on_scale_signal(int change);
  HostedService& add_service(const config::Service& service, Listeners listeners);
  rollover::Driver::Outside outside_of(HostedService& service);
  Result<std::vector<Prepared>> prepare(const config::Config& wanted, const ReloadPlan& plan, bool all);
  Result<Listeners> open_listeners(const config::Service& service, const HostedService* hosted) const;
  static Result<void> check_change(const HostedService& hosted, const config::Service& wanted);
  static Result<void> start(HostedService& hosted, const config::Service& service);
  void warn_of_unused_sockets();
  Result<void> begin_rollover(HostedService& service, const config::Service& wanted, const Wish& wish,
                              rollover::Driver::RolloverWaiter waiter, const Listeners& opened = {});
  void rollover_ended(HostedService& service, const rollover::Report& report);
  std::function<void(const rollover::Report&)> reload_rollover(std::uint32_t id, const std::string& name);
  std::function<void(Result<void>)> reload_start(std::uint32_t id, const std::string& name);
  void end_reload_if_done(std::uint32_t id);
  std::vector<std::string> kept_targets(const HostedService& service, const config::Service& wanted) const;
  void commit(HostedService& service, const config::Service& wanted, Listeners opened);
  void remove_service(HostedService& service);
  // Whether what asks for steering can have it here.
  Result<void> check_steering(const config::Service& service);
  void service_stopped(net::ServiceId id);
  void launch_failed(HostedService& service, const std::string& why);
  void end_if_all_stopped();

  Loop loop_;
  backend::Keeper keeper_;  // forked before any thread exists
  const DescriptorLimits limits_;
  const CommandLine line_;
  const InheritedSockets inherited_;
  config::Config config_;  // as last committed
  const unsigned threads_;
  const TimePoint started_;
  backend::Context context_;
  SteeringProgram steering_;  // outlives the services
  Journal journal_;
  PidFile pid_file_;
  std::string control_path_;
  ServiceManager manager_;
  std::vector<std::unique_ptr<Signal>> signals_;
  std::unique_ptr<backend::KeeperWatch> keeper_watch_;
  std::unique_ptr<backend::OrphanReaper> reaper_;
  std::unique_ptr<net::DataPlane> data_plane_;
  std::vector<std::unique_ptr<HostedService>> services_;  // before the data plane in death: drivers use it
  std::unique_ptr<control::Commands> commands_;
  std::unique_ptr<control::Server> server_;
  net::ServiceId next_id_ = 1;
  // By number; numbers are below 2^32, where no ticket of the control socket is.
  std::map<std::uint32_t, Reload> reloads_;
  std::uint32_t last_reload_ = 0;
  std::unique_ptr<Upgrades> upgrades_;
  bool stopping_ = false;
  bool stops_fast_ = false;
  bool ending_ = false;  // all services have stopped, and the last responses are on their way
  int exit_code_ = 0;
};

int run_daemon(CommandLine line, InheritedSockets inherited);
// In the place of another image. `before_commit` is for tests: at the last moment from which there is a way
// back. There must be no handler for exceptions around it (upgrade/take_over.h).
int run_taken_over(const upgrade::HandedOver& handed, const std::function<void()>& before_commit = nullptr);

}  // namespace relayd
