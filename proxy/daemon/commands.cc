#include "proxy/daemon/commands.h"

#include <unistd.h>

#include <cerrno>

#include "control/protocol/version.h"
#include "proxy/base/log.h"
#include "proxy/config/loader.h"
#include "proxy/daemon/daemon.h"
#include "proxy/daemon/status.h"

namespace relayd {
namespace {

using control::ErrorCode;
using control::Failure;
using control::Outcome;

std::unexpected<Failure> refuse(ErrorCode code, std::string message) {
  return std::unexpected(Failure{code, std::move(message)});
}

std::unexpected<Failure> refuse(const Error& error) {
  return refuse(error.code == EBUSY        ? ErrorCode::kBusy
                : error.code == EOPNOTSUPP ? ErrorCode::kInvalidParams
                                           : ErrorCode::kFailed,
                error.message);
}

// How a Result becomes an answer.
std::function<void(Result<void>)> answering(std::string message,
                                            std::function<void(Outcome<control::Done>)> done) {
  return [message = std::move(message), done = std::move(done)](Result<void> result) {
    if (result) {
      done(control::Done{message});
    } else {
      done(refuse(result.error()));
    }
  };
}

std::vector<std::string> plan_steps(const rollover::Driver& driver, const config::Service& wanted,
                                    config::Mode mode) {
  const rollover::State& state = driver.state();
  const std::string from = state.serving() != nullptr ? std::to_string(state.serving()->number) : "";
  const std::string to = std::to_string(state.last_number + 1);
  const std::string grace = config::format_duration(wanted.rollover.graceful_timeout);
  std::string what = " with " + std::to_string(driver.instances_of(wanted)) +
                     " instance(s) of the configuration as it is now";
  if (const auto& targets = wanted.backend.targets; !targets.empty()) {
    what = ", which somebody else runs:";
    for (const std::string& target : targets) what += " " + target;
  }
  const std::string start = "start generation " + to + what + "; ready within " +
                            config::format_duration(wanted.health.ready_timeout);
  const std::string stop = "stop generation " + from;
  if (from.empty())
    return {"hold new connections", start, "send held and new connections to generation " + to};
  switch (mode) {
    case config::Mode::kPhased:
      return {start + ", while generation " + from + " serves", "send new connections to generation " + to,
              "let generation " + from + " finish what it has, for at most " + grace, stop};
    case config::Mode::kHot:
      return {"hold new connections", "let generation " + from + " finish what it has, for at most " + grace,
              stop, start, "send held and new connections to generation " + to + ", in arrival order"};
    case config::Mode::kRestart:
      return {"hold new connections", "close the connections of generation " + from, stop, start,
              "send held and new connections to generation " + to + ", in arrival order"};
  }
  return {};
}

class DaemonCommands final : public control::Commands {
 public:
  explicit DaemonCommands(Daemon& daemon) : daemon_(daemon) {}

  Outcome<control::StatusReport> status(const std::string& name) override {
    control::StatusReport report;
    report.version = control::version();
    report.pid = ::getpid();
    report.uptime_ms = daemon_.uptime().count();
    report.threads = daemon_.threads();
    report.upgrades = daemon_.upgrades().count();
    report.config_file = daemon_.config_file();
    if (!name.empty()) {
      const auto service = one(name);
      if (!service) return std::unexpected(service.error());
      report.services.push_back(status_of(**service, daemon_.data_plane()));
      return report;
    }
    for (const auto& service : daemon_.services()) {
      if (!service->leaving) report.services.push_back(status_of(*service, daemon_.data_plane()));
    }
    return report;
  }

  void rollover(const RolloverRequest& request, const control::Asked& asked,
                std::function<void(Outcome<control::RolloverResult>)> done) override {
    if (asked.again) return attach_to_rollover(asked.ticket, done);
    if (const auto refused = refuse_while_stopping()) return done(std::unexpected(*refused));
    const auto service = one(request.service);
    if (!service) return done(std::unexpected(service.error()));
    std::optional<config::Mode> mode;
    if (request.mode) {
      mode = config::mode_from(*request.mode);
      if (!mode)
        return done(
            refuse(ErrorCode::kInvalidParams, "mode is phased, hot or restart, not '" + *request.mode + "'"));
    }
    const Daemon::Wish wish{mode, request.env, request.until_drained, request.targets, asked.ticket};
    if (request.dry_run) return done(plan(**service, wish));
    const std::string name = (*service)->name;
    const auto taken = daemon_.rollover(**service, wish, reporting(name, done));
    if (taken) return;
    if (taken.error().code != EBUSY) {
      daemon_.journal().record(
          name,
          {"rollover_refused", 0, -1, "rollover refused, nothing was touched: " + taken.error().message, {}});
    }
    done(refuse(taken.error()));
  }

  Outcome<control::Done> abort(const std::string& name) override {
    const auto service = one(name);
    if (!service) return std::unexpected(service.error());
    const auto aborted = (*service)->driver->abort();
    if (!aborted) return refuse(aborted.error());
    return control::Done{"the rollover of " + (*service)->name + " is aborted"};
  }

  void pause(const std::string& name, std::function<void(Outcome<control::Done>)> done) override {
    if (const auto refused = refuse_while_stopping()) return done(std::unexpected(*refused));
    const auto service = one(name);
    if (!service) return done(std::unexpected(service.error()));
    (*service)->driver->pause(
        answering((*service)->name + " is paused: new connections are held", std::move(done)));
  }

  void resume(const std::string& name, std::function<void(Outcome<control::Done>)> done) override {
    if (const auto refused = refuse_while_stopping()) return done(std::unexpected(*refused));
    const auto service = one(name);
    if (!service) return done(std::unexpected(service.error()));
    (*service)->driver->resume(answering((*service)->name + " serves", std::move(done)));
  }

  void scale(const std::string& name, unsigned instances,
             std::function<void(Outcome<control::Done>)> done) override {
    if (const auto refused = refuse_while_stopping()) return done(std::unexpected(*refused));
    const auto service = one(name);
    if (!service) return done(std::unexpected(service.error()));
    if (instances == 0) {
      return done(refuse(ErrorCode::kInvalidParams,
                         "a service keeps at least 1 instance; `relayctl pause` stops all"));
    }
    if (instances > config::kMostInstances) {
      return done(refuse(ErrorCode::kInvalidParams,
                         "a service has at most " + std::to_string(config::kMostInstances) + " instances"));
    }
    if (!(*service)->driver->serving_targets().empty()) {
      return done(
          refuse(ErrorCode::kFailed,
                 "service " + (*service)->name +
                     " has targets, which somebody else starts: name as many as there are, as in `relayctl "
                     "rollover " +
                     (*service)->name + " --target ADDRESS --target ADDRESS`"));
    }
    const bool runs = (*service)->driver->state().serving() != nullptr;
    (*service)->driver->scale(
        instances, answering((*service)->name + (runs ? " has " : " will have ") + std::to_string(instances) +
                                 " instance(s)" + (runs ? "" : " when it is started again"),
                             std::move(done)));
    daemon_.budget_descriptors();
  }

  void reload(const control::Asked& asked,
              std::function<void(Outcome<control::ReloadResult>)> done) override {
    const auto answer = [done](Result<Daemon::ReloadSummary> summary) {
      if (!summary) return done(refuse(summary.error()));
      if (!summary->failures.empty()) return done(refuse(ErrorCode::kFailed, summary->failures));
      const ReloadPlan& plan = summary->plan;
      done(control::ReloadResult{plan.roll_over, plan.add, plan.remove, plan.adjust, plan.unchanged,
                                 plan.needs_restart});
    };
    if (asked.again) {
      if (!daemon_.attach_to_reload(asked.ticket, answer)) done(lost("reload"));
      return;
    }
    if (const auto refused = refuse_while_stopping()) return done(std::unexpected(*refused));
    daemon_.reload(/*all=*/false, asked.ticket, answer);
  }

  void upgrade(const UpgradeRequest& request, const control::Asked& asked,
               std::function<void(Outcome<control::UpgradeResult>)> done) override {
    const auto answer = [done](const Result<Upgrades::Done>& result) {
      if (!result) return done(refuse(ErrorCode::kFailed, result.error().message));
      control::UpgradeResult told;
      told.from_version = result->from_version;
      told.to_version = result->to_version;
      told.binary = result->binary;
      told.pid = ::getpid();
      told.connections = result->connections;
      told.silence_ms = result->silence_ms;
      done(told);
    };
    if (asked.again) {
      if (!daemon_.upgrades().attach(asked.ticket, answer)) done(lost("upgrade"));
      return;
    }
    daemon_.upgrades().ask({asked.ticket, request.binary}, answer);
  }

  void connections(const std::string& name, std::optional<std::uint32_t> generation,
                   std::function<void(Outcome<std::vector<control::ConnectionEntry>>)> done) override {
    const auto service = one(name);
    if (!service) return done(std::unexpected(service.error()));
    if ((*service)->handed_over) {
      return done(refuse(ErrorCode::kFailed, "the connections of " + (*service)->name +
                                                 " are its app's own (address: handoff), and relayd does not "
                                                 "see them; `ss -tnp` shows them with their processes"));
    }
    constexpr std::size_t kMost = 20'000;
    const std::string shown = (*service)->name;
    std::vector<control::ConnectionEntry> steered;
    for (const SteeredService::Connection& c : (*service)->steering->list(generation, kMost)) {
      control::ConnectionEntry entry;
      entry.service = shown;
      entry.client = c.client.to_string();
      entry.generation = c.generation;
      entry.instance = c.instance;
      entry.state = c.half_closed ? "steered, half-closed" : "steered";
      steered.push_back(std::move(entry));
    }
    const std::size_t room = kMost - steered.size();
    daemon_.data_plane().list_connections(
        (*service)->id, generation, room,
        [done = std::move(done), shown, steered = std::move(steered)](net::ConnectionList list) mutable {
          if (list.truncated || steered.size() == kMost) {
            log::warn("a list of connections was cut: ask for one generation",
                      {{"service", shown}, {"listed", static_cast<std::uint64_t>(kMost)}});
          }
          std::vector<control::ConnectionEntry> entries = std::move(steered);
          for (net::ConnectionInfo& c : list.connections) {
            entries.push_back({shown, c.id, std::move(c.client), c.generation, c.instance, std::move(c.state),
                               c.age.count(), c.idle.count(), c.bytes_in, c.bytes_out});
          }
          done(std::move(entries));
        });
  }

  Outcome<control::Done> stop(bool now) override {
    daemon_.stop(now);
    return control::Done{now ? "relayd stops now" : "relayd drains and stops"};
  }

  std::vector<control::Event> recent_events() override { return daemon_.journal().recent(); }

 private:
  using RolloverDone = std::function<void(Outcome<control::RolloverResult>)>;

  static std::function<void(const rollover::Report&)> reporting(const std::string& name,
                                                                const RolloverDone& done) {
    return [name, done](const rollover::Report& report) {
      done(control::RolloverResult{name,
                                   config::to_string(report.mode),
                                   to_string(report.outcome),
                                   report.reason,
                                   report.from,
                                   report.to,
                                   report.duration.count(),
                                   report.drained,
                                   {}});
    };
  }

  void attach_to_rollover(std::uint64_t ticket, const RolloverDone& done) {
    for (const auto& service : daemon_.services()) {
      if (service->driver->attach(ticket, reporting(service->name, done))) return;
    }
    done(lost("rollover"));
  }

  // What was asked of a former image, and is not among what that one has left: its answer was on the way.
  static std::unexpected<Failure> lost(const std::string& what) {
    return refuse(ErrorCode::kFailed,
                  "relayd was upgraded just as this " + what + " ended; `relayctl events` tells how");
  }

  // The service meant; without a name, the only one.
  Outcome<HostedService*> one(const std::string& name) {
    std::string names;
    std::vector<std::string_view> known;
    HostedService* only = nullptr;
    for (const auto& service : daemon_.services()) {
      if (service->leaving) continue;
      if (service->name == name) return service.get();
      only = service.get();
      known.emplace_back(service->name);
      names += (names.empty() ? "" : ", ") + service->name;
    }
    if (name.empty() && known.size() == 1) return only;
    if (name.empty()) return refuse(ErrorCode::kNoSuchService, "name the service, one of: " + names);
    std::string message = "there is no service '" + name + "'";
    const std::string nearest = config::nearest(name, known);
    message += nearest.empty() ? "; there is: " + names : "; did you mean '" + nearest + "'?";
    return refuse(ErrorCode::kNoSuchService, message);
  }

  std::optional<Failure> refuse_while_stopping() const {
    if (!daemon_.stopping()) return std::nullopt;
    return Failure{ErrorCode::kFailed, "relayd is stopping"};
  }

  Outcome<control::RolloverResult> plan(const HostedService& service, const Daemon::Wish& wish) {
    auto wanted = daemon_.newest_definition(service.name);
    if (!wanted) return refuse(wanted.error());
    if (const auto fit = Daemon::check_wish(*wanted, wish); !fit) return refuse(fit.error());
    if (!wish.targets.empty()) wanted->backend.targets = wish.targets;
    if (const auto fit = rollover::Driver::check_definition(*wanted, wish.env); !fit)
      return refuse(fit.error());
    const rollover::Driver& driver = *service.driver;
    const rollover::State& state = driver.state();
    if (!rollover::may_roll_over(state)) return refuse(ErrorCode::kBusy, driver.busy());
    const config::Mode chosen = wish.mode.value_or(wanted->rollover.mode);
    control::RolloverResult result;
    result.service = service.name;
    result.mode = config::to_string(chosen);
    result.result = "planned";
    result.from = state.serving() != nullptr ? state.serving()->number : 0;
    result.to = state.last_number + 1;
    result.plan = plan_steps(driver, *wanted, chosen);
    return result;
  }

  Daemon& daemon_;
};

}  // namespace

std::unique_ptr<control::Commands> make_commands(Daemon& daemon) {
  return std::make_unique<DaemonCommands>(daemon);
}

}  // namespace relayd
