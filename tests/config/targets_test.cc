#include "proxy/config/targets.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

#include "proxy/config/loader.h"
#include "tests/config/check_rows.h"

namespace relayd::config {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

TEST(Targets, AddressesAreTakenAsTheyAre) {
  for (const char* text : {"10.0.0.5:8000", "[fd00::5]:80", "unix:/run/app.sock", "unix:@app"}) {
    const auto target = parse_target(text);
    ASSERT_TRUE(target) << target.error().message;
    ASSERT_TRUE(target->address) << text;
    EXPECT_EQ(target->address->to_string(), text);
    EXPECT_EQ(target->host, "");
  }
}

TEST(Targets, NamesAreLeftToTheResolver) {
  for (const char* host : {"app", "app.internal", "app.internal.", "web_1.shop_default", "3com.com", "a-b"}) {
    const auto target = parse_target(std::string(host) + ":8000");
    ASSERT_TRUE(target) << target.error().message;
    EXPECT_FALSE(target->address);
    EXPECT_EQ(target->host, host);
    EXPECT_EQ(target->port, 8000);
  }
}

TEST(Targets, WhatIsNoTargetSaysWhatIs) {
  const std::pair<std::string, const char*> rows[] = {
      {"", "has no port"},
      {"10.0.0.5", "'10.0.0.5' has no port"},
      {"app", "give host:port, as in 10.0.0.5:8000"},
      {"app:", "no valid port"},
      {"app:0", "give one from 1 to 65535"},
      {"10.0.0.5:0", "give one from 1 to 65535"},
      {"app:65536", "no valid port"},
      {"app:http", "no valid port"},
      {":8000", "names no host"},
      {"10.0.0.300:80", "names no host"},
      {"fd00::5:80", "names no host"},
      {"[fd00::g]:80", "is not an address"},
      {"[::1]:0", "has port 0"},
      {"-a:80", "names no host"},
      {"a..b:80", "names no host"},
      {"a b:80", "names no host"},
      {"http://app:80", "names no host"},
      {std::string("a\0b:80", 6), "names no host"},
      {std::string(64, 'a') + ":80", "names no host"},
      {"unix:", "needs a path"},
  };
  for (const auto& [text, message] : rows) {
    const auto target = parse_target(text);
    ASSERT_FALSE(target) << text;
    EXPECT_THAT(target.error().message, HasSubstr(message));
  }
}

TEST(Targets, NoneIsTheServicesOwnListener) {
  const auto swap = [](std::string listen, std::string target) {
    return [=](Service& s) {
      s.listen = {listen};
      s.backend.command = {};
      s.backend.targets = {target};
    };
  };
  const char* const kBack = "is an address of this service's own 'listen'";
  expect_rows({
      {swap("127.0.0.1:80", "127.0.0.1:80"), "backend.targets[0]", kBack},
      {swap(":80", "127.0.0.1:80"), "backend.targets[0]", kBack},
      {swap(":80", "[::1]:80"), "backend.targets[0]", kBack},
      {swap(":80", "10.0.0.5:80"), nullptr},
      {swap("127.0.0.1:80", "127.0.0.1:81"), nullptr},
      {swap("127.0.0.1:80", "app:80"), nullptr},
  });
}

TEST(Targets, AListNamesEachOnce) {
  EXPECT_TRUE(check_targets({"10.0.0.5:80", "10.0.0.6:80", "app:80"}));
  EXPECT_THAT(check_targets({}).error().message, HasSubstr("no target is named"));
  EXPECT_THAT(check_targets({"a:1", "b:1", "a:1"}).error().message, HasSubstr("'a:1' is named twice"));
  EXPECT_THAT(check_targets({"a:1", "b"}).error().message, HasSubstr("'b' has no port"));
}

std::vector<std::string> faults_with(const std::function<void(Service&)>& change) {
  Config config;
  Service& service = config.services.emplace_back();
  service.name = "web";
  service.listen = {"127.0.0.1:8080"};
  service.backend.targets = {"10.0.0.5:8000"};
  change(service);
  std::vector<std::string> texts;
  for (const KeyFault& fault : check(config)) texts.push_back(fault.key + ": " + fault.message);
  return texts;
}

TEST(Targets, StandAlone) {
  EXPECT_THAT(faults_with([](Service&) {}), IsEmpty());
  EXPECT_THAT(faults_with([](Service& s) {
                s.backend.targets = {"app.internal:80", "unix:/run/app.sock"};
                s.backend.balance = Balance::kRandom;
                s.health.check = Check::kCommand;
                s.health.command = {"./ready.sh", "{address}"};
                s.rollover.mode = Mode::kHot;
              }),
              IsEmpty());
}

TEST(Targets, BesideWhatIsForProcessesAreAFault) {
  const char* const kCure = "has no effect with 'targets', which somebody else starts and stops: remove it";
  const struct {
    std::function<void(Service&)> change;
    const char* key;
    const char* message;
  } rows[] = {
      {[](Service& s) { s.backend.command = {"app"}; }, "backend.targets", "remove one of them"},
      {[](Service& s) {
         s.backend.targets = {"10.0.0.5:80", "10.0.0.6"};
       },
       "backend.targets[1]", "has no port"},
      {[](Service& s) {
         s.backend.targets = {"a:80", "a:80"};
       },
       "backend.targets[1]", "named twice"},
      {[](Service& s) { s.backend.targets.assign(1, ""); }, "backend.targets[0]", "has no port"},
      {[](Service& s) { s.backend.address = AddressKind::kSocket; }, "backend.address", kCure},
      {[](Service& s) { s.backend.address = AddressKind::kActivation; }, "backend.address", kCure},
      {[](Service& s) { s.backend.address = AddressKind::kHandoff; }, "backend.address", kCure},
      {[](Service& s) { s.backend.steering = Steering::kAuto; }, "backend.steering", kCure},
      {[](Service& s) { s.backend.directory = "/"; }, "backend.directory", kCure},
      {[](Service& s) {
         s.backend.env = {{"A", "1"}};
       },
       "backend.env", kCure},
      {[](Service& s) { s.backend.env_file = "/etc/app.env"; }, "backend.env_file", kCure},
      {[](Service& s) { s.backend.user = "root"; }, "backend.user", kCure},
      {[](Service& s) { s.backend.group = "root"; }, "backend.group", kCure},
      {[](Service& s) { s.backend.nofile = 100; }, "backend.limits.nofile", kCure},
      {[](Service& s) { s.backend.stop_signal = 3; }, "backend.stop_signal", kCure},
      {[](Service& s) { s.backend.stop = StopWhen::kAtOnce; }, "backend.stop", kCure},
      {[](Service& s) { s.backend.kill_timeout = std::chrono::seconds(1); }, "backend.kill_timeout", kCure},
      {[](Service& s) { s.backend.restart_delay.max = std::chrono::seconds(1); }, "backend.restart_delay",
       kCure},
      {[](Service& s) { s.backend.instances = 2; }, "backend.instances", "name more targets"},
      {[](Service& s) { s.health.check = Check::kNotify; }, "health.check", "cannot send READY=1"},
  };
  for (const auto& row : rows) {
    const auto faults = faults_with(row.change);
    ASSERT_EQ(faults.size(), 1U) << row.key << testing::PrintToString(faults);
    EXPECT_THAT(faults[0], testing::StartsWith("services.web." + std::string(row.key) + ": "));
    EXPECT_THAT(faults[0], HasSubstr(row.message));
  }
}

TEST(Targets, AFaultHasItsPlaceInTheFile) {
  const Loaded loaded = load_text(
      "services:\n  web:\n    listen: [\"127.0.0.1:80\"]\n    backend:\n      targets: [\"a:80\", \"b\"]\n"
      "      user: root\n",
      "relayd.yaml");
  std::string all;
  for (const Fault& fault : loaded.faults) all += fault.to_string() + "\n";
  EXPECT_THAT(all, HasSubstr("relayd.yaml:5:25: "));
  EXPECT_THAT(all, HasSubstr("relayd.yaml:6:"));
}

}  // namespace
}  // namespace relayd::config
