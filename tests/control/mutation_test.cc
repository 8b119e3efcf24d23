#include <gtest/gtest.h>

#include <random>

#include "control/protocol/syntax.h"
#include "control/server/dispatch.h"
#include "tests/control/control_fixture.h"

// Broken messages by the ten thousand, from a seed that a failure prints.
namespace relayd::control {
namespace {

const std::vector<std::string>& seeds() {
  static const std::vector<std::string> lines{
      R"({"jsonrpc":"2.0","id":1,"method":"status","params":{"service":"web"}})",
      R"({"jsonrpc":"2.0","id":"two","method":"rollover","params":{"service":"web","mode":"hot","env":{"A":"1","B":"é"},"until":"drained","dry_run":true,"targets":["a:1"]}})",
      R"({"jsonrpc":"2.0","id":3,"method":"scale","params":{"service":"web","instances":4}})",
      R"({"jsonrpc":"2.0","id":4,"method":"connections","params":{"generation":7}})",
      R"({"jsonrpc":"2.0","id":null,"method":"events.recent","params":{"since":12,"recent":3}})",
      R"({"jsonrpc":"2.0","method":"abort"})",
      R"({"jsonrpc":"2.0","id":7,"method":"upgrade","params":{"binary":"/opt/relayd-2/bin/relayd"}})",
      R"([{"jsonrpc":"2.0","id":5,"method":"stop","params":{"now":true}}])",
      R"({"jsonrpc":"2.0","id":-1.5e300,"method":"reload","params":[[[[[{"a":[]}]]]]]})"};
  return lines;
}

std::string mutated(std::mt19937_64& random) {
  static constexpr std::string_view kSpice = "{}[]\",:\\u0e-+.9\x00\xff\xc3\x80\xed\xa0\xf4 \r\tnull";
  std::string line = seeds()[random() % seeds().size()];
  for (auto count = random() % 6; count > 0; --count) {
    const std::size_t at = line.empty() ? 0 : random() % line.size();
    const std::size_t length = std::min<std::size_t>(random() % 12, line.size() - at);
    switch (random() % 6) {
      case 0:
        line.erase(at, length);
        break;
      case 1:
        line.insert(at, 1, kSpice[random() % kSpice.size()]);
        break;
      case 2:
        line.insert(at, line.substr(at, length));
        break;
      case 3:
        if (!line.empty()) line[at] = static_cast<char>(random());
        break;
      case 4:
        line.insert(at, std::string(random() % 40, kSpice[random() % kSpice.size()]));
        break;
      default: {
        const std::string& other = seeds()[random() % seeds().size()];
        line = line.substr(0, at) + other.substr(random() % other.size());
      }
    }
  }
  return line;
}

TEST(Mutation, EveryMessageIsAnsweredOnceWithValidJson) {
  const std::uint64_t seed = 20240607;
  std::mt19937_64 random(seed);
  FakeCommands commands;
  commands.instant_upgrade = UpgradeResult{};
  commands.instant_rollover = RolloverResult{"web", "phased", "done", "", 1, 2, 3, false, {}};
  int refused = 0;
  for (int i = 0; i < 40'000; ++i) {
    const std::string line = mutated(random);
    const auto request = parse_request(line);
    std::vector<std::string> answers;
    if (request) {
      dispatch(*request, {}, commands, [&](std::string answer) { answers.push_back(std::move(answer)); });
    } else {
      ++refused;
      answers.push_back(write_failure(request.error().id, request.error().failure));
    }
    ASSERT_EQ(answers.size(), 1u) << "seed " << seed << " message " << i << ": " << line;
    ASSERT_FALSE(syntax_problem(answers[0])) << "seed " << seed << " message " << i << ": " << answers[0];
    ASSERT_EQ(answers[0].find('\n'), answers[0].size() - 1) << "seed " << seed << " message " << i;
    commands.calls.clear();
    commands.rollovers.clear();
  }
  EXPECT_GT(refused, 10'000);
  EXPECT_LT(refused, 39'000) << "some must get through, or the mutations are too wild to find anything";
}

TEST(Mutation, RelaydsAnswersAreReadWithoutACrash) {
  std::mt19937_64 random(7);
  const std::string good = write_reply("1", FakeCommands::sample_report());
  for (int i = 0; i < 5'000; ++i) {
    std::string line = good;
    for (auto count = 1 + random() % 4; count > 0; --count)
      line[random() % line.size()] = static_cast<char>(random());
    if (const auto message = parse_message(line)) static_cast<void>(read_status(message->body));
  }
}

using MutationSocket = ControlFixture;

TEST_F(MutationSocket, TheServerOutlivesThemAll) {
  start();
  commands_.instant_rollover = RolloverResult{};
  commands_.instant_upgrade = UpgradeResult{};
  std::mt19937_64 random(99);
  for (int round = 0; round < 40; ++round) {
    RawClient client(options_.socket_path);
    for (int i = 0; i < 50; ++i) {
      std::string line = mutated(random) + (random() % 8 == 0 ? "" : "\n");
      for (std::size_t sent = 0; sent < line.size() && !client.closed();) {
        sent += client.send(std::string_view(line).substr(sent, 1 + random() % line.size()));
        loop_.run_nowait();
        while (client.line()) {
        }
      }
    }
  }
  RawClient client(options_.socket_path);
  client.send(write_request(5, VersionCall{}));
  std::optional<std::string> answer;
  ASSERT_TRUE(wait_until([&] { return (answer = client.line()).has_value(); }));
  EXPECT_TRUE(parse_message(*answer));
}

}  // namespace
}  // namespace relayd::control
