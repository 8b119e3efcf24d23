#include <gmock/gmock.h>

#include "tests/control/control_fixture.h"

namespace relayd::control {
namespace {

using testing::HasSubstr;

class ControlLimits : public ControlFixture {
 protected:
  std::string answer(RawClient& client) {
    std::optional<std::string> line;
    EXPECT_TRUE(wait_until([&] { return (line = client.line()).has_value() || client.closed(); }));
    return line.value_or("(closed)");
  }
  // The server still serves others.
  void expect_alive() {
    RawClient client(options_.socket_path);
    client.send(write_request(5, VersionCall{}));
    EXPECT_THAT(answer(client), HasSubstr("\"id\":5"));
  }
};

TEST_F(ControlLimits, ALineOfAMebibyteIsRefusedAndSkipped) {
  start();
  RawClient client(options_.socket_path);
  const std::string line =
      "{\"x\":\"" + std::string(std::size_t{1} << 20, 'a') + "\"}\n" + write_request(6, VersionCall{});
  std::size_t sent = 0;
  ASSERT_TRUE(wait_until([&] {
    sent += client.send(std::string_view(line).substr(sent));
    return sent == line.size();
  }));
  EXPECT_THAT(answer(client), HasSubstr("more than 65536 bytes"));
  EXPECT_THAT(answer(client), HasSubstr("\"id\":6")) << "the connection goes on with the next line";
}

TEST_F(ControlLimits, DeepNestingIsRefused) {
  start();
  RawClient client(options_.socket_path);
  client.send(std::string(60'000, '[') + "\n");
  EXPECT_THAT(answer(client), HasSubstr("nested deeper"));
}

TEST_F(ControlLimits, HalfAMessageIsNotWaitedForForEver) {
  options_.limits.half_message = Duration(30);
  start();
  RawClient client(options_.socket_path), idle(options_.socket_path);
  client.send("{\"jsonrpc\"");
  EXPECT_THAT(answer(client), HasSubstr("half a message"));
  EXPECT_TRUE(wait_until([&] { return client.closed(); }));
  EXPECT_FALSE(idle.closed()) << "one that says nothing may stay";
}

TEST_F(ControlLimits, AMessageTooManyByOneHundredClients) {
  start();
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < 100; ++i) {
    clients.push_back(std::make_unique<RawClient>(options_.socket_path));
    loop_.run_nowait();
  }
  std::size_t refused = 0;
  for (auto& client : clients) {
    client->send(write_request(5, VersionCall{}));
    if (answer(*client).find("64 clients are connected") != std::string::npos) ++refused;
  }
  EXPECT_EQ(refused, 36u);
  clients.resize(10);
  for (int i = 0; i < 5; ++i) loop_.run_once();
  expect_alive();
}

TEST_F(ControlLimits, TooManyOutstandingRequests) {
  options_.limits.outstanding = 3;
  start();
  RawClient client(options_.socket_path);
  for (int i = 1; i <= 4; ++i) client.send(write_request(static_cast<std::uint64_t>(i), RolloverCall{}));
  const auto message = parse_message(answer(client));
  ASSERT_TRUE(message && message->failure);
  EXPECT_EQ(message->id, 4u);
  commands_.open_rollovers.at(0)(RolloverResult{});
  EXPECT_EQ(parse_message(answer(client))->id, 1u);
}

TEST_F(ControlLimits, OutstandingRequestsOfTooManyBytes) {
  options_.limits.outstanding_bytes = 300;
  start();
  RawClient client(options_.socket_path);
  const RolloverCall large{"web", {}, {{"A", std::string(200, 'x')}}};
  client.send(write_request(1, large) + write_request(2, large) + write_request(3, VersionCall{}));
  const auto refused = parse_message(answer(client));
  ASSERT_TRUE(refused && refused->failure);
  EXPECT_EQ(refused->id, 2u);
  EXPECT_THAT(refused->failure->message, HasSubstr("the limit is 300"));
  EXPECT_EQ(parse_message(answer(client))->id, 3u);
  commands_.open_rollovers.at(0)(RolloverResult{});
  EXPECT_EQ(parse_message(answer(client))->id, 1u);
  client.send(write_request(4, large));
  ASSERT_TRUE(wait_until([&] { return commands_.open_rollovers.size() == 2; })) << "its bytes are free again";
}

TEST_F(ControlLimits, AFollowerThatDoesNotReadIsDropped) {
  start();
  RawClient lazy(options_.socket_path), eager(options_.socket_path);
  lazy.send(write_request(1, SubscribeCall{}));
  eager.send(write_request(1, SubscribeCall{}));
  EXPECT_THAT(answer(eager), HasSubstr("replayed"));
  for (int i = 0; i < 5; ++i) loop_.run_once();
  std::size_t got = 0;
  constexpr std::uint64_t kEvents = 4000;  // of 1 KiB: four times what is kept for one who does not read
  for (std::uint64_t i = 1; i <= kEvents; ++i) {
    server_->publish({i, 0, "web", "noise", 0, {}, std::string(1024, 'x'), {}});
    if (i % 50 == 0) loop_.run_nowait();
    while (eager.line()) ++got;
  }
  EXPECT_TRUE(wait_until([&] {
    while (eager.line()) ++got;
    return got == kEvents;
  })) << got;
  std::size_t lazy_got = 0;
  EXPECT_TRUE(wait_until([&] {
    while (lazy.line()) ++lazy_got;
    return lazy.closed();
  }));
  EXPECT_LT(lazy_got, kEvents);
  expect_alive();
}

TEST_F(ControlLimits, AClientThatAsksAndDoesNotReadIsPausedNotServedForEver) {
  start();
  commands_.entries.assign(2000, commands_.entries[0]);  // some 300 KB an answer
  RawClient client(options_.socket_path);
  for (std::uint64_t id = 1; id <= 40; ++id) client.send(write_request(id, ConnectionsCall{}));
  for (int i = 0; i < 20; ++i) loop_.run_once();
  const std::size_t before = commands_.calls.size();
  EXPECT_LT(before, 40u) << "its next requests wait until it reads";
  for (std::uint64_t id = 1; id <= 40; ++id) EXPECT_EQ(parse_message(answer(client))->id, id);
}

TEST_F(ControlLimits, AnAnswerLargerThanTheBoundArrives) {
  start();
  commands_.entries.assign(20'000, commands_.entries[0]);
  RawClient client(options_.socket_path);
  client.send(write_request(1, ConnectionsCall{}));
  const auto message = parse_message(answer(client));
  ASSERT_TRUE(message);
  EXPECT_EQ(read_connections(message->body)->connections.size(), 20'000u);
}

TEST_F(ControlLimits, AClientThatNeverReadsDoesNotHoldUpTheEnd) {
  options_.limits.last_flush = Duration(50);
  start();
  commands_.entries.assign(20'000, commands_.entries[0]);
  RawClient client(options_.socket_path);
  client.send(write_request(1, ConnectionsCall{}));
  ASSERT_TRUE(wait_until([&] { return !commands_.calls.empty(); }));
  const TimePoint begun = monotonic_now();
  server_.reset();
  EXPECT_LT(monotonic_now() - begun, kPatience);
}

}  // namespace
}  // namespace relayd::control
