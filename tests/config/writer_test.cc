#include "proxy/config/writer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "proxy/config/loader.h"
#include "proxy/config/names.h"
#include "tests/config/random_config.h"

// What is written is read back as the same, whatever it holds.
namespace relayd::config {
namespace {

using testing::HasSubstr;

Config with_service(const Service& service) {
  Config config;
  config.services.push_back(service);
  return config;
}

Service named(const std::string& name) {
  Service service;
  service.name = name;
  return service;
}

void expect_same(const Config& config) {
  const std::string text = write_config(config);
  const auto back = read_written(text);
  ASSERT_TRUE(back) << back.error().message << "\n" << text;
  EXPECT_TRUE(*back == config) << text << "\nbecame\n" << write_config(*back);
}

TEST(Writer, DefaultsAreLeftOut) {
  EXPECT_EQ(write_config(Config{}), "{}\n");
  expect_same(Config{});
  EXPECT_EQ(write_service(named("web")), "services:\n  \"web\": {}\n");
  expect_same(with_service(named("web")));
}

TEST(Writer, WritesWhatOneWouldWrite) {
  Config config;
  config.control.mode = 0660;
  config.threads = 2;
  Service& web = config.services.emplace_back(named("web"));
  web.listen = {":8080", "unix:/run/web"};
  web.protocol = Protocol::kHttp;
  web.transparent = true;
  web.backend.command = {"app", "--bind", "{address}", ""};
  web.backend.env = {{"NAME", ""}, {"WORDS", "a \"b\"\né"}};
  web.backend.nofile = 1024;
  web.backend.stop_signal = 3;
  web.rollover.surge = {25, true};
  web.rollover.tunnel_timeout = 1500ms;
  EXPECT_EQ(write_config(config), R"(control:
  mode: 0660
threads: 2
services:
  "web":
    listen: [":8080", "unix:/run/web"]
    protocol: http
    transparent: true
    backend:
      command: ["app", "--bind", "{address}", ""]
      env:
        "NAME": ""
        "WORDS": "a \"b\"\x0a\xe9"
      limits:
        nofile: 1024
      stop_signal: QUIT
    rollover:
      tunnel_timeout: 1500ms
      surge: 25%
)");
  expect_same(config);
  // The loader itself reads it, too.
  const Loaded loaded = load_text(write_config(config), "written");
  for (const Fault& fault : loaded.faults) EXPECT_THAT(fault.message, HasSubstr("transparent"));
  EXPECT_EQ(loaded.config, config);
}

TEST(Writer, EveryFileOfTheExamples) {
  int files = 0;
  for (const auto& entry : std::filesystem::directory_iterator(RELAYD_CONFIGS)) {
    if (entry.path().extension() != ".yaml") continue;
    ++files;
    SCOPED_TRACE(entry.path());
    const Config config = load_file(entry.path()).config;
    ASSERT_FALSE(config.services.empty());
    expect_same(config);
    for (const Service& service : config.services) {
      const auto back = read_written_service(write_service(service));
      ASSERT_TRUE(back) << back.error().message;
      EXPECT_EQ(*back, service);
    }
  }
  EXPECT_GE(files, 9);
}

template <typename E, typename Struct>
void expect_each(Config& config, Struct& section, E Struct::*member) {
  for (const auto& name : kNames<E>) {
    section.*member = name.value;
    expect_same(config);
  }
}

TEST(Writer, EveryValueOfEveryEnumeration) {
  Config config = with_service(named("web"));
  Service& web = config.services[0];
  expect_each(config, config.log, &Log::level);
  expect_each(config, config.log, &Log::format);
  expect_each(config, web, &Service::protocol);
  expect_each(config, web.proxy_protocol, &ProxyProtocolOptions::send);
  expect_each(config, web.backend, &Backend::address);
  expect_each(config, web.backend, &Backend::steering);
  expect_each(config, web.backend, &Backend::balance);
  expect_each(config, web.backend, &Backend::stop);
  expect_each(config, web.health, &Health::check);
  expect_each(config, web.rollover, &Rollover::mode);
  expect_each(config, web.rollover, &Rollover::failure_action);
}

TEST(Writer, EveryOneOfTheOtherNotations) {
  Config config = with_service(named("web"));
  Service& web = config.services[0];
  for (const char* signal : {"TERM", "INT", "QUIT", "HUP", "USR1", "USR2", "ALRM", "ABRT", "WINCH", "KILL"}) {
    web.backend.stop_signal = parse_signal(signal).value();
    expect_same(config);
  }
  for (unsigned bits = 0; bits <= 0777; ++bits) {
    config.control.mode = bits;
    expect_same(config);
  }
  for (const Duration time : {0ms, 1ms, 999ms, 60'000ms, 60'001ms, 3'600'000ms, 31'536'000'000ms}) {
    web.rollover.tunnel_timeout = web.hold.timeout = time;
    expect_same(config);
  }
  for (unsigned share = 0; share <= 100; ++share) {
    web.rollover.surge = {share, true};
    web.rollover.canary = share;
    expect_same(config);
    web.rollover.surge = {share, false};
    expect_same(config);
  }
}

// Replay one: --gtest_filter=Writer.RandomConfigurations with the seed printed. A member that no table has
// would come back as its default, which none has here.
TEST(Writer, RandomConfigurations) {
  for (unsigned seed = 1; seed <= 2000 && !testing::Test::HasFailure(); ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    const Config config = random_config(random);
    expect_same(config);
    const auto service = read_written_service(write_service(config.services[0]));
    ASSERT_TRUE(service) << service.error().message;
    ASSERT_TRUE(*service == config.services[0]);
  }
}

// Each byte and each character alone, as a value, a list's item, a name and its value.
TEST(Writer, EveryCharacter) {
  Config config = with_service(named("web"));
  Backend& backend = config.services[0].backend;
  const auto add = [&](const std::string& text) {
    backend.command.push_back(text);
    backend.env[text] = text;
  };
  for (unsigned byte = 1; byte <= 0xFF; ++byte) add(std::string(1, static_cast<char>(byte)));
  for (unsigned code = 0x80; code <= 0x10FFFF; code += code < 0x3000 ? 1 : 251) {
    if (code >= 0xD800 && code <= 0xDFFF) continue;
    const auto tail = [code](unsigned shift) { return static_cast<char>(0x80U | (code >> shift & 0x3FU)); };
    if (code < 0x800) {
      add({static_cast<char>(0xC0U | code >> 6), tail(0)});
    } else if (code < 0x10000) {
      add({static_cast<char>(0xE0U | code >> 12), tail(6), tail(0)});
    } else {
      add({static_cast<char>(0xF0U | code >> 18), tail(12), tail(6), tail(0)});
    }
  }
  expect_same(config);
}

TEST(Writer, MoreThanAFileMayHold) {
  Config config;
  for (int i = 0; i < 300; ++i) {
    Service& service = config.services.emplace_back(named("s" + std::to_string(i)));
    for (int n = 0; n < 400; ++n) service.backend.env["NAME" + std::to_string(n)] = std::string(20, 'x');
  }
  config.services[0].backend.command = {std::string(2U << 20, 'x')};
  expect_same(config);
}

// What the checks refuse may run: its folder may have gone, or two files may have been merged.
TEST(Writer, ReadsWithoutChecks) {
  Config config = with_service(named("Not a name"));
  config.services[0].backend.directory = "/nowhere/at/all";
  config.services[0].rollover.canary = 5;
  ASSERT_FALSE(load_text(write_config(config), "written").faults.empty());
  expect_same(config);
}

std::string error_of(std::string_view text) {
  const auto back = read_written(text);
  return back ? "none" : back.error().message;
}

TEST(Writer, FaultsAreTheLoadersWithTheirPlace) {
  EXPECT_EQ(error_of("threads: 2\nthreds: 3\n"),
            "written configuration:2:1: unknown key 'threds'; did you mean 'threads'?");
  EXPECT_THAT(error_of("services:\n  web: {hold: {timeout: 5}}\n"),
              HasSubstr("written configuration:2:25: services.web.hold.timeout: expected a duration"));
  EXPECT_THAT(error_of("services: [\n"), HasSubstr("not valid YAML"));
  EXPECT_EQ(error_of(""), "written configuration: it is empty");
  EXPECT_THAT(error_of("pid_file: !bytes \"\\u0100\""), HasSubstr("a character that is no byte"));
  EXPECT_THAT(error_of("pid_file: !bytes \"\\0\""), HasSubstr("a zero byte"));
  EXPECT_THAT(error_of("pid_file: &a x\nadmin: {listen: *a}"), HasSubstr("an alias"));
  EXPECT_THAT(error_of(std::string("pid_file: \"a\0b\"", 15)), HasSubstr("a control character"));
}

// The file's own reader knows no such tag.
TEST(Writer, BytesAreForWhatIsWrittenAlone) {
  EXPECT_EQ(read_written("pid_file: !bytes \"\\xff\"").value().pid_file, "\xff");
  const Loaded loaded = load_text("pid_file: !bytes \"\\xff\"", "file");
  ASSERT_EQ(loaded.faults.size(), 1U);
  EXPECT_THAT(loaded.faults[0].message, HasSubstr("the tag '!bytes' means nothing here"));
}

// A value that no notation has is refused when it is read, not changed.
TEST(Writer, WhatCannotBeWrittenIsNotReadAsSomethingElse) {
  Config config = with_service(named("web"));
  config.services[0].backend.stop_signal = 11;
  EXPECT_THAT(error_of(write_config(config)), HasSubstr("stop_signal: expected the name of a signal"));
  config = with_service(named("web"));
  config.services[0].hold.timeout = -1s;
  EXPECT_THAT(error_of(write_config(config)), HasSubstr("hold.timeout: expected a duration"));
  config = with_service(named("web"));
  config.services.push_back(named("web"));
  EXPECT_THAT(error_of(write_config(config)), HasSubstr("duplicate key 'web'"));
  config.pid_file = std::string("a\0b", 3);
  EXPECT_THAT(error_of(write_config(config)), HasSubstr("pid_file: the text has a zero byte"));
}

TEST(Writer, AServiceIsOneAndNothingElse) {
  const auto error = [](std::string_view text) {
    const auto back = read_written_service(text);
    return back ? "none" : back.error().message;
  };
  EXPECT_EQ(error("services: {a: {}}"), "none");
  EXPECT_THAT(error("{}"), HasSubstr("expected one service and nothing else, not 0 services"));
  EXPECT_THAT(error("services: {a: {}, b: {}}"), HasSubstr("not 2 services"));
  EXPECT_THAT(error("threads: 2\nservices: {a: {}}"), HasSubstr("not 1 services and more"));
  EXPECT_THAT(error("services: {a: {x: 1}}"), HasSubstr("services.a: unknown key 'x'"));
}

}  // namespace
}  // namespace relayd::config
