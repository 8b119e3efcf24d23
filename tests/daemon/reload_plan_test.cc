// What a new configuration leads to: rolled over only where a process would be started differently.
#include "proxy/daemon/reload_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

namespace relayd {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using std::chrono_literals::operator""s;

config::Config two_services() {
  config::Config config;
  for (const char* name : {"web", "api"}) {
    config::Service service;
    service.name = name;
    service.listen = {"127.0.0.1:0"};
    service.backend.command = {"app"};
    config.services.push_back(service);
  }
  return config;
}

TEST(ReloadPlan, NothingChanged) {
  const ReloadPlan plan = plan_reload(two_services(), two_services());
  EXPECT_THAT(plan.unchanged, ElementsAre("web", "api"));
  EXPECT_THAT(plan.roll_over, IsEmpty());
  EXPECT_THAT(plan.needs_restart, IsEmpty());
}

struct Change {
  const char* what;
  std::function<void(config::Service&)> change;
};

TEST(ReloadPlan, WhatAProcessIsStartedWithRollsOver) {
  const Change changes[] = {
      {"command", [](auto& s) { s.backend.command.emplace_back("--new"); }},
      {"env", [](auto& s) { s.backend.env["A"] = "b"; }},
      {"env_file", [](auto& s) { s.backend.env_file = "/etc/app.env"; }},
      {"directory", [](auto& s) { s.backend.directory = "/"; }},
      {"user", [](auto& s) { s.backend.user = "nobody"; }},
      {"address", [](auto& s) { s.backend.address = config::AddressKind::kSocket; }},
      {"limits.nofile", [](auto& s) { s.backend.nofile = 100; }},
      {"stop_signal", [](auto& s) { s.backend.stop_signal = 3; }},
      {"health.path", [](auto& s) { s.health.path = "/up"; }},
      {"health.interval", [](auto& s) { s.health.interval = 7s; }},
  };
  for (const Change& c : changes) {
    config::Config wanted = two_services();
    c.change(wanted.services[0]);
    const ReloadPlan plan = plan_reload(two_services(), wanted);
    EXPECT_THAT(plan.roll_over, ElementsAre("web")) << c.what;
    EXPECT_THAT(plan.unchanged, ElementsAre("api")) << c.what;
    EXPECT_THAT(plan.adjust, IsEmpty()) << c.what;
  }
}

TEST(ReloadPlan, TheRestTakesEffectInPlace) {
  const Change changes[] = {
      {"listen", [](auto& s) { s.listen.emplace_back("127.0.0.1:9"); }},
      {"limits.max_connections", [](auto& s) { s.limits.max_connections = 1; }},
      {"limits.idle_timeout", [](auto& s) { s.limits.idle_timeout = 1s; }},
      {"hold.timeout", [](auto& s) { s.hold.timeout = 1s; }},
      {"rollover.mode", [](auto& s) { s.rollover.mode = config::Mode::kHot; }},
      {"rollover.graceful_timeout", [](auto& s) { s.rollover.graceful_timeout = 1s; }},
      {"backend.balance", [](auto& s) { s.backend.balance = config::Balance::kRandom; }},
      {"health.ready_timeout", [](auto& s) { s.health.ready_timeout = 1s; }},
  };
  for (const Change& c : changes) {
    config::Config wanted = two_services();
    c.change(wanted.services[1]);
    const ReloadPlan plan = plan_reload(two_services(), wanted);
    EXPECT_THAT(plan.adjust, ElementsAre("api")) << c.what;
    EXPECT_THAT(plan.roll_over, IsEmpty()) << c.what;
    EXPECT_THAT(plan.scale, IsEmpty()) << c.what;
  }
}

TEST(ReloadPlan, TheNumberOfInstancesScales) {
  config::Config wanted = two_services();
  wanted.services[0].backend.instances = 4;
  const ReloadPlan plan = plan_reload(two_services(), wanted);
  EXPECT_THAT(plan.scale, ElementsAre("web"));
  EXPECT_THAT(plan.roll_over, IsEmpty());
}

TEST(ReloadPlan, ServicesComeAndGo) {
  config::Config wanted = two_services();
  wanted.services[1].name = "new";
  const ReloadPlan plan = plan_reload(two_services(), wanted);
  EXPECT_THAT(plan.add, ElementsAre("new"));
  EXPECT_THAT(plan.remove, ElementsAre("api"));
}

TEST(ReloadPlan, WhatOnlyAStartCanChangeIsNamed) {
  config::Config wanted = two_services();
  wanted.threads = 7;
  wanted.control.socket = "/tmp/other.sock";
  wanted.pid_file = "/tmp/other.pid";
  EXPECT_THAT(plan_reload(two_services(), wanted).needs_restart,
              ElementsAre("control", "pid_file", "threads"));
}

TEST(ReloadPlan, WithHandoffTheAddressesAreWhatAProcessIsStartedWith) {
  config::Config running = two_services();
  running.services[0].backend.address = config::AddressKind::kHandoff;
  config::Config wanted = running;
  for (config::Service& service : wanted.services) service.listen.push_back("127.0.0.1:1");
  const ReloadPlan plan = plan_reload(running, wanted);
  EXPECT_THAT(plan.roll_over, ElementsAre("web"));
  EXPECT_THAT(plan.adjust, ElementsAre("api"));
}

}  // namespace
}  // namespace relayd
