#include "proxy/config/loader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <unistd.h>

#include <fstream>

#include "proxy/base/descriptor.h"
#include "tests/base/scratch_directory.h"

namespace relayd::config {
namespace {

using std::chrono_literals::operator""min;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::vector<std::string> faults_of(const Loaded& loaded) {
  std::vector<std::string> texts;
  for (const Fault& fault : loaded.faults) texts.push_back(fault.to_string());
  return texts;
}

std::vector<std::string> faults_in(std::string_view text) { return faults_of(load_text(text, "f.yaml")); }

// A service that is complete but for the lines added, which stand in line 5 and after.
std::string service_with(const std::string& lines) {
  return "services:\n  web:\n    listen: [\":8080\"]\n    backend: {command: [app]}\n" + lines;
}

TEST(Loader, LeastConfigurationHasTheDefaults) {
  const Loaded loaded = load_text(service_with(""), "f.yaml");
  EXPECT_THAT(faults_of(loaded), IsEmpty());
  Config expected;
  expected.services.resize(1);
  expected.services[0].name = "web";
  expected.services[0].listen = {":8080"};
  expected.services[0].backend.command = {"app"};
  EXPECT_EQ(loaded.config, expected);
}

TEST(Loader, ReadsEveryKindOfKey) {
  const Loaded loaded = load_text(R"(
control: {socket: /run/x.sock, mode: "0660"}
log: {level: debug, format: json, file: /var/log/relayd.log}
pid_file: /run/x.pid
threads: 3
services:
  first:
    listen: ["127.0.0.1:1", "[::1]:2", "unix:/run/x"]
    protocol: tcp
    proxy_protocol: {accept: false, send: off}
    limits: {max_connections: 5, connect_timeout: 1s, idle_timeout: 2m}
    backend:
      command: [app, "{socket}"]
      address: socket
      instances: 2
      balance: round_robin
      directory: /
      env: {A: 1, B: "", C: "{generation}", D: null text}
      env_file: /etc/none
      user: "0"
      group: root
      limits: {nofile: 1024}
      stop_signal: SIGQUIT
      stop: at_once
      kill_timeout: 3s
      restart_delay: {min: 1s, max: 2s}
    health: {check: command, command: [./ready], interval: 0s, timeout: 1s, ready_timeout: 5m}
    rollover: {mode: hot, graceful_timeout: 7s, max_old_generations: 3}
    hold: {max_connections: 9, timeout: 8s}
  second:
    listen: [":3"]
    backend: {command: [b]}
)",
                                  "f.yaml");
  EXPECT_THAT(faults_of(loaded), IsEmpty());
  const Config& config = loaded.config;
  EXPECT_EQ(config.control, (Control{"/run/x.sock", 0660, ""}));
  EXPECT_EQ(config.log, (Log{log::Level::kDebug, log::Format::kJson, "/var/log/relayd.log"}));
  EXPECT_EQ(config.pid_file, "/run/x.pid");
  EXPECT_EQ(config.threads, 3U);
  ASSERT_EQ(config.services.size(), 2U);
  EXPECT_EQ(config.services[1].name, "second");
  const Service& s = config.services[0];
  EXPECT_EQ(s.name, "first");
  EXPECT_THAT(s.listen, ElementsAre("127.0.0.1:1", "[::1]:2", "unix:/run/x"));
  EXPECT_EQ(s.protocol, Protocol::kTcp);
  EXPECT_EQ(s.limits, (ServiceLimits{5, 1s, 2min}));
  EXPECT_THAT(s.backend.command, ElementsAre("app", "{socket}"));
  EXPECT_EQ(s.backend.address, AddressKind::kSocket);
  EXPECT_EQ(s.backend.instances, 2U);
  EXPECT_EQ(s.backend.balance, Balance::kRoundRobin);
  EXPECT_EQ(s.backend.directory, "/");
  EXPECT_EQ(s.backend.env, (std::map<std::string, std::string>{
                               {"A", "1"}, {"B", ""}, {"C", "{generation}"}, {"D", "null text"}}));
  EXPECT_EQ(s.backend.env_file, "/etc/none");
  EXPECT_EQ(s.backend.user, "0");
  EXPECT_EQ(s.backend.group, "root");
  EXPECT_EQ(s.backend.nofile, 1024U);
  EXPECT_EQ(s.backend.stop_signal, SIGQUIT);
  EXPECT_EQ(s.backend.stop, StopWhen::kAtOnce);
  EXPECT_EQ(s.backend.kill_timeout, 3s);
  EXPECT_EQ(s.backend.restart_delay, (RestartDelay{1s, 2s}));
  EXPECT_EQ(s.health, (Health{Check::kCommand, "", {"./ready"}, 0s, 1s, 5min}));
  EXPECT_EQ(s.rollover.mode, Mode::kHot);
  EXPECT_EQ(s.rollover.graceful_timeout, 7s);
  EXPECT_EQ(s.rollover.max_old_generations, 3U);
  EXPECT_EQ(s.hold, (Hold{9, 8s, 0}));
}

TEST(Loader, NullMeansStandardErrorForTheLogAlone) {
  EXPECT_THAT(faults_in("log: {file: null}\n" + service_with("")), IsEmpty());
  EXPECT_THAT(faults_in("log: {file: ~}\n" + service_with("")), IsEmpty());
  EXPECT_THAT(faults_in("pid_file: null\n" + service_with("")),
              ElementsAre("f.yaml:1:1: pid_file: expected text, not nothing; give it, or leave the key out"));
}

// One line of a file, and the fault it must give: place, path, and the heart of the message.
TEST(Loader, PlacesEachFault) {
  const struct {
    const char* lines;  // from line 5 on
    const char* place;
    const char* message;
  } rows[] = {
      {"    rolover: {}\n", "f.yaml:5:5: services.web:", "unknown key 'rolover'; did you mean 'rollover'?"},
      {"    rollover:\n      gracefull_timeout: 3s\n",
       "f.yaml:6:7: services.web.rollover:", "did you mean 'graceful_timeout'?"},
      {"    graceful_timeout: 3s\n", "f.yaml:5:5: services.web:", "it belongs in services.NAME.rollover"},
      {"    replicas: 3\n", "f.yaml:5:5: services.web:", "there are listen, protocol,"},
      {"    <<: {}\n", "f.yaml:5:5: services.web:", "merge keys are not read"},
      {"    hold: 3\n",
       "f.yaml:5:11: services.web.hold:", "expected a map with the keys max_connections, timeout"},
      {"    hold:\n", "f.yaml:5:5: services.web.hold:", "not nothing"},
      {"    hold: []\n", "f.yaml:5:11: services.web.hold:", "not a list"},
      {"    hold: {timeout: 3}\n", "f.yaml:5:21: services.web.hold.timeout:", "expected a duration"},
      {"    hold: {timeout: [3s]}\n", "f.yaml:5:21: services.web.hold.timeout:", "not a list"},
      {"    hold: {max_connections: many}\n",
       "f.yaml:5:29: services.web.hold.max_connections:", "expected a whole number, not 'many'"},
      {"    hold: {max_connections: -1}\n",
       "f.yaml:5:29: services.web.hold.max_connections:", "whole number"},
      {"    hold: {max_connections: \"7\"}\n",
       "f.yaml:5:29: services.web.hold.max_connections:", "without quotes"},
      {"    hold: {max_connections: 4294967296}\n",
       "f.yaml:5:29: services.web.hold.max_connections:", "whole number"},
      {"    hold: {timeout: 3s, timeout: 4s}\n",
       "f.yaml:5:25: services.web.hold:", "duplicate key 'timeout': already given in line 5"},
      {"    listen: [\":9\"]\n",
       "f.yaml:5:5: services.web:", "duplicate key 'listen': already given in line 3"},
      {"  web: {}\n", "f.yaml:5:3: services:", "duplicate key 'web': already given in line 2"},
      {"    ? [a]\n    : b\n", "f.yaml:5:7: services.web:", "expected a name as the key, not a list"},
      {"    \"\": b\n", "f.yaml:5:5: services.web:", "not an empty text"},
      {"    transparent: maybe\n",
       "f.yaml:5:18: services.web.transparent:", "expected true or false, not 'maybe'"},
      {"    transparent: \"false\"\n", "f.yaml:5:18: services.web.transparent:", "without quotes"},
      {"    rollover: {mode: fased}\n", "f.yaml:5:22: services.web.rollover.mode:",
       "expected one of (phased, hot or restart), not 'fased'; did you mean 'phased'?"},
      {"    rollover: {mode: \"a\\nb\"}\n", "f.yaml:5:22: services.web.rollover.mode:", "not 'a\\x0ab'"},
      {"    rollover: {surge: lots}\n", "f.yaml:5:23: services.web.rollover.surge:", "or a percentage"},
      {"    rollover: {canary: 5}\n", "f.yaml:5:24: services.web.rollover.canary:", "as in 25%"},
      {"    health: {path: \"\"}\n", "f.yaml:5:20: services.web.health.path:", "the text is empty"},
      {"    health: {path: !x /up}\n", "f.yaml:5:20: the tag '!x'", "take it away"},
      {"    health: {check: command, command: [a, {b}]}\n",
       "f.yaml:5:43: services.web.health.command[1]:", "put it in quotes, as in \"{address}\""},
      {"    health: {check: command, command: ./ready.sh}\n", "f.yaml:5:39: services.web.health.command:",
       "expected a list, as in [\"first\", \"second\"], not the single value './ready.sh'"},
      {"    hold: {max_connections: 0}\n", "f.yaml:5:29: services.web.hold.max_connections:", "give 1 to"},
      {"  other:\n    backend: {command: [b]}\n",
       "f.yaml:5:3: services.other.listen:", "no address to listen on"},
      {"  other:\n    listen: [\":9\"]\n", "f.yaml:5:3: services.other.backend.command:", "nothing to run"},
      {"  other:\n    lissten: [\":9\"]\n    backend: {command: [b]}\n",
       "f.yaml:6:5: services.other:", "did you mean 'listen'?"},
      {"thread: 2\n", "f.yaml:5:1: unknown key", "did you mean 'threads'?"},
      {"threads: none\n", "f.yaml:5:10: threads:", "or auto"},
      {"control: {mode: 600}\n", "f.yaml:5:17: control.mode:", "in octal"},
  };
  for (const auto& row : rows) {
    const auto faults = faults_in(service_with(row.lines));
    ASSERT_EQ(faults.size(), 1U) << row.lines << testing::PrintToString(faults);
    EXPECT_THAT(faults[0], testing::StartsWith(row.place));
    EXPECT_THAT(faults[0], HasSubstr(row.message));
  }
}

TEST(Loader, ReportsAllFaultsInTheOrderOfTheFile) {
  const Loaded loaded = load_text(service_with("    hold: {timeout: 0s, max: 3}\n"
                                               "    health: {timeout: x}\n"
                                               "    listen: 5\n"
                                               "threads: 5000\n"
                                               "colour: blue\n"),
                                  "f.yaml");
  std::vector<int> lines;
  for (const Fault& fault : loaded.faults) lines.push_back(fault.line);
  EXPECT_THAT(lines, ElementsAre(5, 5, 6, 7, 8, 9)) << testing::PrintToString(faults_of(loaded));
}

// What a value that could not be read would have meant is not complained about a second time.
TEST(Loader, OneFaultForOneMistake) {
  EXPECT_EQ(faults_in("services: 3\n").size(), 1U);
  EXPECT_EQ(faults_in("servces: {}\n").size(), 1U);
  EXPECT_EQ(faults_in("services: {web: 3}\n").size(), 1U);
  EXPECT_EQ(faults_in("services: {web: {listen: 80, backend: []}}\n").size(), 2U);
}

TEST(Loader, SyntaxErrorsHaveAPlace) {
  const struct {
    const char* text;
    const char* fault;
  } rows[] = {
      {"services: {web: [}\n", "f.yaml:1:18: not valid YAML: "},
      {"a:\n  b: 1\n c: 2\n", "f.yaml:3:2: not valid YAML: "},
      {"a: *nobody\n", "f.yaml:1:4: not valid YAML: "},
      {"services:\n\tweb: 1\n",
       "f.yaml:2:5: not valid YAML: illegal map value; line 2 is indented with a tab"},
      // yaml-cpp takes these quotes for closed at the end of the file, and all keys after them for text.
      {"a: \"open\n", "f.yaml:1:9: not valid YAML: a quote is opened above and never closed"},
      {"a: \"", "f.yaml:1:5: not valid YAML: a quote is opened above and never closed"},
      {"a: 'open\nb: c\n\n", "f.yaml:2:5: not valid YAML: a quote is opened above and never closed"},
      {"a: [1,\n", "f.yaml:1:7: not valid YAML: end of sequence flow not found"},
      {"- a\n",
       "f.yaml:1:1: expected a map with the keys control, admin, log, pid_file, threads or services, not a "
       "list"},
      {"just text", "f.yaml:1:1: expected a map"},
      {"", "f.yaml:1:1: the file is empty: it needs at least services"},
      {"# only this\n", "f.yaml:1:1: the file is empty"},
      {"null\n", "f.yaml:1:1: the file is empty"},
      {"services: {}\n---\nservices: {}\n", "f.yaml:3:1: a second YAML document"},
      {"services: {}\n", "f.yaml:1:1: services: there is no service"},
      {"threads: 2\n", "f.yaml:1:1: services: there is no service"},
  };
  for (const auto& row : rows) {
    const auto faults = faults_in(row.text);
    ASSERT_EQ(faults.size(), 1U) << row.text << testing::PrintToString(faults);
    EXPECT_THAT(faults[0], testing::StartsWith(row.fault));
  }
}

TEST(Loader, AliasesMayBeShared) {
  const Loaded loaded = load_text(
      "services:\n"
      "  a: {listen: [\":1\"], backend: &b {command: [app], instances: 3}}\n"
      "  b: {listen: [\":2\"], backend: *b}\n",
      "f.yaml");
  EXPECT_THAT(faults_of(loaded), IsEmpty());
  EXPECT_EQ(loaded.config.services.at(1).backend, loaded.config.services.at(0).backend);
}

TEST(Loader, ManyFaultsAreCounted) {
  std::string text = service_with("");
  for (int i = 0; i < 150; ++i) text += "zz" + std::to_string(i) + ": 1\n";
  const auto faults = faults_in(text);
  ASSERT_EQ(faults.size(), 101U);
  EXPECT_THAT(faults.back(), HasSubstr("and 50 faults more"));
}

class LoadFile : public testing::Test {
 protected:
  ScratchDirectory directory_;
  std::string path_ = directory_.path() + "/f.yaml";
};

TEST_F(LoadFile, ReadsTheFile) {
  std::ofstream(path_) << service_with("");
  EXPECT_THAT(faults_of(load_file(path_)), IsEmpty());
  std::ofstream(path_) << "a: 1\n";
  EXPECT_THAT(faults_of(load_file(path_)), Contains(testing::StartsWith(path_ + ":1:1: unknown key 'a'")));
}

TEST_F(LoadFile, SaysWhyItCannotBeRead) {
  EXPECT_THAT(faults_of(load_file(path_)),
              ElementsAre(path_ + ": cannot read the configuration: No such file or directory (ENOENT)"));
  EXPECT_THAT(faults_of(load_file(directory_.path())), ElementsAre(HasSubstr("Is a directory (EISDIR)")));
  EXPECT_THAT(faults_of(load_file("")),
              ElementsAre("cannot read the configuration: No such file or directory (ENOENT)"));
  EXPECT_THAT(faults_of(load_file("/dev/zero")),
              ElementsAre("/dev/zero: the file is larger than 1 MiB: split it"));
}

// A shell's <(command): the text comes through a pipe.
TEST_F(LoadFile, ReadsAPipe) {
  auto ends = make_pipe();
  ASSERT_TRUE(ends);
  const std::string text = service_with("");
  ASSERT_EQ(::write(ends->write.get(), text.data(), text.size()), static_cast<ssize_t>(text.size()));
  ends->write.reset();
  EXPECT_THAT(faults_of(load_file("/proc/self/fd/" + std::to_string(ends->read.get()))), IsEmpty());
}

}  // namespace
}  // namespace relayd::config
