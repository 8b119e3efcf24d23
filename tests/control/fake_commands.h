#pragma once

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "control/server/commands.h"

namespace relayd::control {

// A daemon that remembers what it was asked. Rollovers stay open until the test ends them, or are answered at
// once with `instant_rollover`.
class FakeCommands : public Commands {
 public:
  StatusReport report = sample_report();
  std::vector<Event> events;
  std::optional<Outcome<RolloverResult>> instant_rollover;
  std::function<void()> on_rollover;  // after the request was taken
  Outcome<Done> simple = Done{"done as asked"};
  std::vector<std::string> calls;
  std::vector<RolloverRequest> rollovers;
  std::vector<std::function<void(Outcome<RolloverResult>)>> open_rollovers;
  std::vector<Asked> asked;  // of rollovers, reloads and upgrades, in their order
  std::optional<Outcome<UpgradeResult>> instant_upgrade;
  std::vector<std::function<void(Outcome<UpgradeResult>)>> open_upgrades;  // where it is not given
  bool hold_simple = false;  // pause, resume and scale stay open until the test ends them
  std::vector<std::function<void(Outcome<Done>)>> open_simple;
  std::vector<ConnectionEntry> entries{{"web", 7, "127.0.0.1:4000", 2, 0, "relaying", 1500, 20, 4096, 65536}};
  bool throws = false;

  static StatusReport sample_report() {
    InstanceStatus instance{0, "ready", 4242, "127.0.0.1:8000", 0, 34, 100, ""};
    GenerationStatus serving{2, "serving", 240'000, 34, std::nullopt, std::nullopt, {instance}};
    GenerationStatus draining{1, "draining", 7'200'000, 12, 12'300, std::nullopt, {instance}};
    ServiceStatus web;
    web.name = "web";
    web.phase = "serving";
    web.mode = "phased";
    web.listen = {"0.0.0.0:80"};
    web.generation = 2;
    web.generations = {serving, draining};
    web.instances = 1;
    web.last_rollover = LastRollover{"phased", "done", "", 1, 2, 1200, 1'700'000'000'000};
    web.active = 46;
    return {"0.1.0", 100, 90'000'000, 2, "relayd.yaml", {web}};
  }

  Outcome<StatusReport> status(const std::string& service) override {
    calls.push_back("status " + service);
    if (throws) throw std::runtime_error("thrown by the daemon");
    if (service.empty()) return report;
    StatusReport one = report;
    std::erase_if(one.services, [&](const auto& s) { return s.name != service; });
    if (one.services.empty())
      return std::unexpected(Failure{ErrorCode::kNoSuchService, "no service \"" + service + "\""});
    return one;
  }
  void rollover(const RolloverRequest& request, const Asked& how,
                std::function<void(Outcome<RolloverResult>)> done) override {
    asked.push_back(how);
    calls.push_back("rollover " + request.service);
    rollovers.push_back(request);
    if (instant_rollover) {
      done(*instant_rollover);
    } else {
      open_rollovers.push_back(std::move(done));
    }
    if (on_rollover) on_rollover();
  }
  Outcome<Done> abort(const std::string& service) override { return note("abort " + service); }
  void pause(const std::string& service, std::function<void(Outcome<Done>)> done) override {
    answer("pause " + service, std::move(done));
  }
  void resume(const std::string& service, std::function<void(Outcome<Done>)> done) override {
    answer("resume " + service, std::move(done));
  }
  void scale(const std::string& service, unsigned instances,
             std::function<void(Outcome<Done>)> done) override {
    answer("scale " + service + " " + std::to_string(instances), std::move(done));
  }
  void reload(const Asked& how, std::function<void(Outcome<ReloadResult>)> done) override {
    asked.push_back(how);
    calls.emplace_back("reload");
    done(ReloadResult{{"web"}, {}, {}, {}, {"api"}, {"threads"}});
  }
  void connections(const std::string& service, std::optional<std::uint32_t> generation,
                   std::function<void(Outcome<std::vector<ConnectionEntry>>)> done) override {
    calls.push_back("connections " + service + (generation ? " " + std::to_string(*generation) : ""));
    done(entries);
  }
  Outcome<Done> stop(bool now) override { return note(now ? "stop now" : "stop"); }
  void upgrade(const UpgradeRequest& request, const Asked& how,
               std::function<void(Outcome<UpgradeResult>)> done) override {
    asked.push_back(how);
    calls.push_back("upgrade " + request.binary);
    if (instant_upgrade) return done(*instant_upgrade);
    open_upgrades.push_back(std::move(done));
  }
  std::vector<Event> recent_events() override { return events; }

 private:
  void answer(std::string call, std::function<void(Outcome<Done>)> done) {
    const auto outcome = note(std::move(call));
    if (!hold_simple) return done(outcome);
    open_simple.push_back(std::move(done));
  }
  Outcome<Done> note(std::string call) {
    calls.push_back(std::move(call));
    return simple;
  }
};

}  // namespace relayd::control
