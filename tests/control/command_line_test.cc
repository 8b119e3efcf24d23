#include "control/relayctl/command_line.h"

#include <gmock/gmock.h>

#include <filesystem>

#include "control/relayctl/duration.h"

namespace relayd::relayctl {
namespace {

using testing::HasSubstr;

std::expected<Options, Ending> read(std::vector<const char*> words) {
  words.insert(words.begin(), "relayctl");
  return read_command_line(static_cast<int>(words.size()), words.data());
}

TEST(CommandLine, Rollover) {
  const auto options = read({"rollover", "web", "--mode", "hot", "--env", "A=1", "--env", "B=x=y", "--until",
                             "drained", "--timeout", "2m", "--json", "--dry-run"});
  ASSERT_TRUE(options) << options.error().message;
  const auto& call = std::get<Rollover>(options->verb).call;
  EXPECT_EQ(call.service, "web");
  EXPECT_EQ(call.mode, "hot");
  EXPECT_EQ(call.env, (std::map<std::string, std::string>{{"A", "1"}, {"B", "x=y"}}));
  EXPECT_TRUE(call.until_drained);
  EXPECT_TRUE(call.dry_run);
  EXPECT_TRUE(options->json);
  EXPECT_EQ(options->timeout, Duration(120'000));
  const auto swap = read({"rollover", "--target", "10.0.0.6:8000", "--target", "app:80", "web"});
  ASSERT_TRUE(swap) << swap.error().message;
  EXPECT_EQ(std::get<Rollover>(swap->verb).call.service, "web");
  EXPECT_EQ(std::get<Rollover>(swap->verb).call.targets,
            (std::vector<std::string>{"10.0.0.6:8000", "app:80"}));
  const auto plain = read({"rollover"});
  ASSERT_TRUE(plain);
  EXPECT_EQ(std::get<Rollover>(plain->verb).call, control::RolloverCall{});
}

TEST(CommandLine, AnEnvDoesNotSwallowTheServiceAfterIt) {
  const auto options = read({"rollover", "--env", "A=1", "web"});
  ASSERT_TRUE(options) << options.error().message;
  EXPECT_EQ(std::get<Rollover>(options->verb).call.service, "web");
}

TEST(CommandLine, TheSocketGoesBeforeOrAfterTheVerb) {
  EXPECT_EQ(read({"--socket", "/x", "status"})->socket, "/x");
  EXPECT_EQ(read({"status", "--socket", "/x"})->socket, "/x");
  EXPECT_EQ(read({"status", "web", "--socket=/x", "--json"})->socket, "/x");
}

TEST(CommandLine, ScaleTakesOneOrTwoWords) {
  const auto scale = [](std::vector<const char*> words) {
    return std::get<control::ScaleCall>(std::get<Simple>(read(words)->verb).call);
  };
  EXPECT_EQ(scale({"scale", "3"}), (control::ScaleCall{"", 3}));
  EXPECT_EQ(scale({"scale", "web", "3"}), (control::ScaleCall{"web", 3}));
}

TEST(CommandLine, TheOtherVerbs) {
  EXPECT_EQ(std::get<control::AbortCall>(std::get<Simple>(read({"abort", "web"})->verb).call).service, "web");
  EXPECT_EQ(std::get<control::PauseCall>(std::get<Simple>(read({"pause"})->verb).call).service, "");
  EXPECT_EQ(std::get<control::ResumeCall>(std::get<Simple>(read({"resume", "a"})->verb).call).service, "a");
  EXPECT_TRUE(std::holds_alternative<Reload>(read({"reload"})->verb));
  EXPECT_TRUE(std::get<Status>(read({"status", "--watch"})->verb).watch);
  EXPECT_EQ(std::get<Connections>(read({"connections", "web", "--generation", "4"})->verb).call.generation,
            4u);
  EXPECT_TRUE(std::get<Events>(read({"events", "--follow"})->verb).follow);
  EXPECT_TRUE(std::get<Stop>(read({"stop", "--now"})->verb).now);
}

TEST(CommandLine, UpgradeNamesAnAbsolutePathOrNone) {
  const auto binary = [](std::vector<const char*> words) {
    const auto options = read(std::move(words));
    EXPECT_TRUE(options) << options.error().message;
    return options ? std::get<Upgrade>(options->verb).call.binary : "";
  };
  EXPECT_EQ(binary({"upgrade"}), "");
  EXPECT_EQ(binary({"upgrade", "--binary", "/opt/relayd-2/relayd"}), "/opt/relayd-2/relayd");
  EXPECT_EQ(binary({"upgrade", "--binary", "build/relayd"}),
            (std::filesystem::current_path() / "build/relayd").string());
  EXPECT_EQ(binary({"upgrade", "--binary=relayd"}), (std::filesystem::current_path() / "relayd").string());
  const auto options = read({"upgrade", "--timeout", "30s", "--json"});
  ASSERT_TRUE(options) << options.error().message;
  EXPECT_EQ(options->timeout, Duration(30'000));
  EXPECT_TRUE(options->json);
}

TEST(CommandLine, WhatIsWrongIsUsageAndSaysWhy) {
  const std::vector<std::pair<std::vector<const char*>, const char*>> table{
      {{}, "give a command"},
      {{"statsu"}, "\"status\" meant"},
      {{"--socket", "/x", "rolover"}, "\"rollover\" meant"},
      {{"frobnicate"}, "no command"},
      {{"status", "--jsn"}, "--jsn"},
      {{"status", "a", "b"}, "b"},
      {{"rollover", "--mode", "phasd"}, "is phased meant"},
      {{"rollover", "--until", "never"}, "ready or drained"},
      {{"rollover", "--timeout", "30"}, "30s"},
      {{"rollover", "--env", "A"}, "NAME=VALUE"},
      {{"rollover", "--env", "1A=2"}, "1A"},
      {{"rollover", "--env", "A=1", "--env", "A=2"}, "twice"},
      {{"rollover", "--target"}, "--target"},
      {{"rollover", "--canary", "5%"}, "not in this version yet"},
      {{"promote", "web"}, "not in this version yet"},
      {{"rollback"}, "not in this version yet"},
      {{"upgrade", "--binary", ""}, "it is empty"},
      {{"upgrade", "--binary="}, "--binary"},
      {{"upgrade", "--binary"}, "--binary"},
      {{"upgrade", "--binry", "/x"}, "--binry"},
      {{"upgrade", "web"}, "web"},
      {{"upgrade", "--timeout", "0s"}, "--timeout"},
      {{"upgrad"}, "\"upgrade\" meant"},
      {{"doctor"}, "not in this version yet"},
      {{"scale"}, "N is required"},
      {{"scale", "web"}, "whole number"},
      {{"scale", "web", "0"}, "1 to 1000"},
      {{"connections", "--generation", "x"}, "generation"},
  };
  for (const auto& [words, says] : table) {
    const auto options = read(words);
    ASSERT_FALSE(options) << says;
    EXPECT_EQ(options.error().code, kExitUsage) << says;
    EXPECT_THAT(options.error().message, HasSubstr(says));
  }
}

TEST(CommandLine, EveryVerbHasHelpWithAnExample) {
  for (const char* verb : {"status", "rollover", "promote", "rollback", "abort", "pause", "resume", "scale",
                           "reload", "upgrade", "connections", "events", "stop", "doctor"}) {
    const auto options = read({verb, "--help"});
    ASSERT_FALSE(options);
    EXPECT_EQ(options.error().code, kExitDone);
    EXPECT_THAT(options.error().message, HasSubstr(std::string("  relayctl ") + verb)) << verb;
  }
  EXPECT_THAT(read({"--version"}).error().message, HasSubstr("relayctl "));
}

TEST(Durations, AsInTheConfiguration) {
  EXPECT_EQ(parse_duration("250ms"), Duration(250));
  EXPECT_EQ(parse_duration("30s"), Duration(30'000));
  EXPECT_EQ(parse_duration("5m"), Duration(300'000));
  EXPECT_EQ(parse_duration("1h"), Duration(3'600'000));
  for (const char* wrong :
       {"", "30", "s", "-1s", "0s", "1.5s", "1 s", "1d", "99999999999999999999s", "9999999999h", "1sx"}) {
    EXPECT_FALSE(parse_duration(wrong)) << wrong;
  }
}

}  // namespace
}  // namespace relayd::relayctl
