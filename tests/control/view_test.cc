#include <gmock/gmock.h>

#include "control/relayctl/connections_view.h"
#include "control/relayctl/rollover_view.h"
#include "control/relayctl/status_view.h"
#include "control/relayctl/upgrade_view.h"
#include "tests/control/fake_commands.h"

namespace relayd::relayctl {
namespace {

using control::FakeCommands;
using testing::Each;
using testing::HasSubstr;
using testing::Not;
using testing::ResultOf;

constexpr std::int64_t kNow = 1'700'000'240'000;

std::string joined(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  return text;
}

TEST(Text, Durations) {
  const std::vector<std::pair<std::int64_t, const char*>> table{{-5, "0.0 s"},
                                                                {0, "0.0 s"},
                                                                {49, "0.0 s"},
                                                                {1250, "1.2 s"},
                                                                {9999, "9.9 s"},
                                                                {10'000, "10 s"},
                                                                {59'999, "59 s"},
                                                                {60'000, "1 min"},
                                                                {184'000, "3 min 4 s"},
                                                                {3'600'000, "1 h"},
                                                                {7'500'000, "2 h 5 min"},
                                                                {86'400'000, "1 d"},
                                                                {273'600'000, "3 d 4 h"}};
  for (const auto& [ms, text] : table) EXPECT_EQ(human_duration(ms), text) << ms;
}

TEST(Text, Bytes) {
  const std::vector<std::pair<std::uint64_t, const char*>> table{{0, "0 B"},
                                                                 {1023, "1023 B"},
                                                                 {1024, "1.0 KiB"},
                                                                 {1536, "1.5 KiB"},
                                                                 {24'117'248, "23.0 MiB"},
                                                                 {209'715'200, "200 MiB"},
                                                                 {~std::uint64_t{0}, "16.0 EiB"}};
  for (const auto& [bytes, text] : table) EXPECT_EQ(human_bytes(bytes), text) << bytes;
}

TEST(Text, StrangersCannotDriveTheTerminal) {
  EXPECT_EQ(printable("a\x1b[2Jb\tc\nd\x7f\xc2\x9b"), "a?[2Jb c?d??");
  EXPECT_EQ(printable("a\nb", true), "a\nb");
  EXPECT_EQ(printable("caf\xc3\xa9"), "caf\xc3\xa9");
}

TEST(Text, LinesAreCutByColumnsNotBytes) {
  const Style plain{false, true, 5};
  EXPECT_EQ(cut_line("ééééé", plain), "ééééé");
  EXPECT_EQ(cut_line("éééééé", plain), "éééé…");
  const Style coloured{true, true, 4};
  EXPECT_EQ(cut_line(paint(coloured, Paint::kRed, "abcdef"), coloured), "\x1b[31mabc…\x1b[0m")
      << "the colour ends with the line";
  EXPECT_EQ(cut_line("abcdef", Style{false, false, 4}), "abc>");
  EXPECT_EQ(cut_line("abcdef", Style{false, true, 0}), "abcdef");
}

TEST(Text, ColumnsAreAligned) {
  EXPECT_THAT(aligned({{"a", "bb", ""}, {"ccc", "d", "e"}}), testing::ElementsAre("a    bb", "ccc  d   e"));
}

TEST(StatusView, TheTableThatPeopleSee) {
  EXPECT_EQ(joined(status_lines(FakeCommands::sample_report(), false, Style{}, kNow)),
            "relayd 0.1.0   pid 100   up 1 d 1 h   2 threads   relayd.yaml\n"
            "\n"
            "SERVICE  PHASE    GEN  READY  CONNS  HELD  MODE    LAST ROLLOVER\n"
            "web      serving  2    1/1    46     0     phased  done phased 1→2 in 1.2 s, 4 min ago\n"
            "  generation 2  serving   1/1 ready  34 connections  up 4 min\n"
            "  generation 1  draining  1/1 ready  12 connections  up 2 h    cut in 12 s\n");
}

TEST(StatusView, InstancesAndFailureOnDemand) {
  auto report = FakeCommands::sample_report();
  report.services[0].last_rollover->result = "failed";
  report.services[0].last_rollover->reason = "exit status 3\nImportError: app";
  report.services[0].generations[0].instances[0].note = "GET /up: 503";
  const std::string overview = joined(status_lines(report, false, Style{}, kNow));
  EXPECT_THAT(overview, HasSubstr("why the last rollover failed: exit status 3\n"));
  EXPECT_THAT(overview, Not(HasSubstr("ImportError")));
  const std::string all = joined(status_lines(report, true, Style{}, kNow));
  EXPECT_THAT(all, HasSubstr("    ImportError: app\n"));
  EXPECT_THAT(all, HasSubstr("instance 0  ready  pid 4242  127.0.0.1:8000  34 connections  GET /up: 503"));
  EXPECT_THAT(all, HasSubstr("listens on 0.0.0.0:80"));
}

TEST(StatusView, TargetsAreToldByTheirNamesAndAddresses) {
  auto report = FakeCommands::sample_report();
  control::InstanceStatus& instance = report.services[0].generations[0].instances[0];
  instance.pid = 0;
  instance.target = instance.address = "10.0.0.5:8000";
  instance.addresses = {"10.0.0.5:8000"};
  EXPECT_THAT(joined(status_lines(report, true, Style{}, kNow)),
              HasSubstr("instance 0  ready    10.0.0.5:8000  34 connections\n"));
  instance.target = "app.internal:8000";
  instance.addresses = {"10.0.0.5:8000", "10.0.0.6:8000"};
  EXPECT_THAT(joined(status_lines(report, true, Style{}, kNow)),
              HasSubstr("  app.internal:8000 = 10.0.0.5:8000, 10.0.0.6:8000  34 connections\n"));
}

TEST(StatusView, RefusedProxyHeadersAreToldWhereThereAreAny) {
  auto report = FakeCommands::sample_report();
  EXPECT_THAT(joined(status_lines(report, true, Style{}, kNow)), Not(HasSubstr("PROXY")));
  report.services[0].proxy_refused = 3;
  EXPECT_THAT(joined(status_lines(report, true, Style{}, kNow)),
              HasSubstr("  3 clients refused for want of a valid PROXY header"));
}

TEST(StatusView, RequestsAreToldWhereThereAreAny) {
  auto report = FakeCommands::sample_report();
  EXPECT_THAT(joined(status_lines(report, true, Style{}, kNow)), Not(HasSubstr("request")));
  control::ServiceStatus& web = report.services[0];
  web.requests = 1200;
  web.crossings = 46;
  web.sent_again = 1;
  web.answered = 3;
  web.generations[0].requests = 900;
  web.generations[0].instances[0].requests = 1;
  const std::string all = joined(status_lines(report, true, Style{}, kNow));
  EXPECT_THAT(all, HasSubstr("34 connections, 900 requests  up 4 min"));
  EXPECT_THAT(all, HasSubstr("127.0.0.1:8000  34 connections, 1 request\n"));
  EXPECT_THAT(all, HasSubstr("  1200 requests answered by the app, 3 by relayd; 46 crossings to another "
                             "generation; 1 sent again\n"));
}

TEST(StatusView, ConnectionsThatRelaydDoesNotSeeHaveNoNumber) {
  auto report = FakeCommands::sample_report();
  report.services[0].data_path = "app";
  const std::string all = joined(status_lines(report, true, Style{}, kNow));
  EXPECT_THAT(all, Not(HasSubstr("connection,")));
  EXPECT_THAT(all, Not(HasSubstr("34 connections")));
  EXPECT_THAT(all, Not(HasSubstr("accepted,")));
  EXPECT_THAT(all, HasSubstr("its connections are its own"));
}

TEST(StatusView, NarrowTerminalsGetNarrowLines) {
  for (const std::size_t width : {1u, 10u, 20u, 40u, 79u}) {
    EXPECT_THAT(status_lines(FakeCommands::sample_report(), true, Style{true, true, width}, kNow),
                Each(ResultOf([](const std::string& line) { return columns(line); }, testing::Le(width))));
  }
}

TEST(StatusView, NothingServes) {
  auto report = FakeCommands::sample_report();
  report.services[0].generation = 0;
  report.services[0].generations.clear();
  report.services[0].last_rollover.reset();
  report.services[0].phase = "starting";
  report.services[0].holding = true;
  report.services[0].held = 7;
  EXPECT_THAT(joined(status_lines(report, true, Style{}, kNow)),
              HasSubstr("web      starting, holding  -    0/1    46     7"));
  report.services.clear();
  EXPECT_THAT(joined(status_lines(report, false, Style{}, kNow)), HasSubstr("no service"));
}

// The service as a phased rollover from 2 to 3 goes on.
struct Scene {
  control::ServiceStatus service = FakeCommands::sample_report().services[0];
  Scene() { service.generations.pop_back(); }
  control::ServiceStatus starting() {
    control::GenerationStatus next{3,
                                   "starting",
                                   500,
                                   0,
                                   std::nullopt,
                                   29'000,
                                   {{0, "starting", 7, "127.0.0.1:9", 0, 0, 0, "GET /up: 503"}}};
    service.generations.insert(service.generations.begin(), next);
    return service;
  }
  control::ServiceStatus switched() {
    service.generation = 3;
    service.generations[0].state = "serving";
    service.generations[0].ready_in_ms.reset();
    service.generations[0].instances[0].state = "ready";
    service.generations[1].state = "draining";
    service.generations[1].connections = 17;
    service.generations[1].cut_in_ms = 12'000;
    return service;
  }
  control::ServiceStatus drained() {
    service.generations.pop_back();
    return service;
  }
};

TEST(RolloverView, PhasedStepByStep) {
  Scene scene;
  RolloverView view(scene.service, std::nullopt);
  const auto picture = [&] { return joined(view.lines(1300, 0, Style{})); };
  EXPECT_THAT(picture(),
              HasSubstr("web  phased rollover  1.3 s\n  started … → ready → switched → old drained\n"));
  view.update(scene.starting());
  EXPECT_THAT(picture(), HasSubstr("✓ started → ready … → switched → old drained\n"));
  EXPECT_THAT(picture(), HasSubstr("starting, 0/1 ready, given up in 29 s (GET /up: 503)"));
  view.update(scene.switched());
  EXPECT_THAT(picture(), HasSubstr("✓ started → ✓ ready → ✓ switched → old drained …\n"));
  EXPECT_THAT(
      picture(),
      HasSubstr("generation 2  ████████████░░░░░░░░░░░░  draining, 17 connections left, cut in 12 s"));
  view.update(scene.drained());
  EXPECT_THAT(picture(), HasSubstr("✓ started → ✓ ready → ✓ switched → ✓ old drained\n"));
}

TEST(RolloverView, HotHoldsFirst) {
  Scene scene;
  RolloverView view(scene.service, "hot");
  scene.service.holding = true;
  scene.service.held = 3;
  view.update(scene.service);
  EXPECT_THAT(joined(view.lines(0, 1, Style{})),
              HasSubstr("3 clients held\n  ✓ held → old drained … → started → ready → released\n"));
  scene.service.generations.clear();
  scene.service.generation = 0;
  view.update(scene.service);
  EXPECT_THAT(joined(view.lines(0, 1, Style{})), HasSubstr("✓ held → ✓ old drained → started …"));
}

TEST(RolloverView, RestartStopsFirstAndAsciiIsEnough) {
  Scene scene;
  RolloverView view(scene.service, "restart");
  const std::string text = joined(view.lines(0, 1, Style{false, false, 0}));
  EXPECT_THAT(text, HasSubstr("/ web  restart rollover"));
  EXPECT_THAT(text, HasSubstr("  old stopped ... > started > ready > released\n"));
  EXPECT_TRUE(std::ranges::all_of(text, [](char c) { return static_cast<unsigned char>(c) < 0x80; }));
}

TEST(RolloverView, NarrowTerminals) {
  Scene scene;
  RolloverView view(scene.service, std::nullopt);
  view.update(scene.starting());
  EXPECT_THAT(view.lines(0, 1, Style{true, true, 30}),
              Each(ResultOf([](const std::string& line) { return columns(line); }, testing::Le(30u))));
}

TEST(ResultView, DoneFailedPlanned) {
  Scene scene;
  scene.starting();
  const auto after = scene.switched();
  EXPECT_EQ(
      joined(result_lines({"web", "phased", "done", "", 2, 3, 1300, false, {}}, &after, Style{})),
      "✓ web: generation 3 serves (phased, 1.3 s); generation 2 still has 17 connections, cut in 12 s\n");
  EXPECT_EQ(joined(result_lines({"web", "hot", "done", "", 2, 3, 1300, true, {}}, nullptr, Style{})),
            "✓ web: generation 3 serves (hot, 1.3 s); generation 2 is gone\n");
  auto emptied = after;
  emptied.generations[1].connections = 0;
  emptied.generations[1].state = "stopping";
  EXPECT_THAT(joined(result_lines({"web", "phased", "done", "", 2, 3, 1300, false, {}}, &emptied, Style{})),
              HasSubstr("generation 2 is stopping\n"));
  const auto before = Scene().service;
  EXPECT_EQ(
      joined(result_lines({"web",
                           "phased",
                           "failed",
                           "instance 0 exited with status 3\nlast lines of its stderr:\nImportError\x1b[2J",
                           2,
                           3,
                           800,
                           false,
                           {}},
                          &before, Style{})),
      "✗ web: phased rollover failed (generation 3, 0.8 s): instance 0 exited with status 3\n"
      "    last lines of its stderr:\n"
      "    ImportError?[2J\n"
      "  generation 2 still serves\n");
  EXPECT_EQ(joined(plan_lines({"web", "hot", "planned", "", 2, 3, 0, false, {"hold", "drain"}}, Style{})),
            "web: a hot rollover from generation 2 to 3 would\n  1. hold\n  2. drain\n");
}

TEST(OtherViews, ReloadConnectionsEvents) {
  EXPECT_EQ(joined(reload_lines({{"web"}, {}, {}, {}, {"api", "db"}, {"threads"}}, Style{})),
            "rolled over: web\nunchanged: api, db\ntakes effect only when relayd starts anew: threads\n");
  EXPECT_EQ(joined(reload_lines({}, Style{})), "nothing changed\n");
  EXPECT_EQ(
      upgrade_line({"1.2.0", "1.2.1\x1b[2J", "/usr/bin/relayd", 4711, 9000, 43}),
      "relayd 1.2.0 was replaced by 1.2.1?[2J: pid 4711 as before, 9000 connections kept, silent for 43 ms");
  EXPECT_THAT(
      joined(connection_lines({{"web", 7, "[::1]:80", 2, 0, "relaying", 61'000, 20, 4096, 65536}}, Style{})),
      HasSubstr("web      7   [::1]:80  2    0         relaying  1 min 1 s  0.0 s  4.0 KiB  64.0 KiB\n"));
  EXPECT_THAT(joined(connection_lines({}, Style{})), HasSubstr("no connection"));
  EXPECT_THAT(
      event_line({1, 1'700'000'000'250, "web", "switched", 7, {}, "new connections go to generation 7", {}},
                 Style{}),
      testing::EndsWith(".250  web  switched  new connections go to generation 7"));
  EXPECT_THAT(event_line({1, 0, "", "reloaded", 0, {}, "", {}}, Style{}), HasSubstr("relayd  reloaded"));
}

}  // namespace
}  // namespace relayd::relayctl
