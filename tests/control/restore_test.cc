#include <gmock/gmock.h>

#include <set>

#include "tests/control/restore_fixture.h"

// A server that is saved, forgotten, and restored in another loop's turn, as by an upgrade of relayd.
// Whatever is under way goes on, exactly once.
namespace relayd::control {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST_F(Restore, AHalfReadMessageIsReadToItsEnd) {
  start();
  RawClient client(options_.socket_path);
  const std::string line = write_request(7, StatusCall{"web"});
  client.send(std::string_view(line).substr(0, 20));
  ASSERT_TRUE(
      wait_until([&] { return server_->save().clients.size() == 1 && only_client().input.size() == 20; }));
  client.send(std::string_view(line).substr(20, 10));  // nobody has read this when the old one goes
  upgrade();
  client.send(std::string_view(line).substr(30));
  EXPECT_EQ(answered_id(client), 7u);
  EXPECT_THAT(commands_.calls, ElementsAre("status web"));
}

TEST_F(Restore, HalfAMessageIsStillNotWaitedForForEver) {
  start();
  RawClient client(options_.socket_path);
  client.send("{");
  ASSERT_TRUE(wait_until([&] { return server_->save().clients.size() == 1 && only_client().input == "{"; }));
  options_.limits.half_message = Duration(30);
  upgrade();
  EXPECT_THAT(answer(client), HasSubstr("half a message"));
  EXPECT_TRUE(wait_until([&] { return client.closed(); }));
}

TEST_F(Restore, WhatHadNoAnswerIsAskedAgainInOrderUnderItsTicket) {
  start();
  commands_.hold_simple = true;
  RawClient first(options_.socket_path), second(options_.socket_path);
  first.send(write_request(5, RolloverCall{"web", "hot", {{"A", "b"}}}) + write_request(6, PauseCall{"web"}));
  ASSERT_TRUE(wait_until([&] { return commands_.open_simple.size() == 1; }));
  second.send(write_request(5, UpgradeCall{"/opt/relayd"}));
  ASSERT_TRUE(wait_until([&] { return commands_.open_upgrades.size() == 1; }));
  const std::vector<Asked> before = commands_.asked;
  ASSERT_EQ(before.size(), 2u);
  EXPECT_FALSE(before[0].again || before[1].again);
  EXPECT_NE(before[0].ticket, before[1].ticket);

  const ServerRecord record = forget_server();
  commands_.hold_simple = true;
  restore(record);
  server_->resume();
  EXPECT_THAT(commands_.calls, ElementsAre("rollover web", "pause web", "upgrade /opt/relayd"));
  EXPECT_EQ(commands_.rollovers.at(0).env.at("A"), "b");
  ASSERT_EQ(commands_.asked.size(), 2u);
  for (std::size_t i = 0; i < 2; ++i) {
    EXPECT_TRUE(commands_.asked[i].again);
    EXPECT_EQ(commands_.asked[i].ticket, before[i].ticket);
  }
  commands_.open_upgrades.at(0)(UpgradeResult{});
  commands_.open_simple.at(0)(Done{});
  commands_.open_rollovers.at(0)(RolloverResult{});
  EXPECT_EQ(answered_id(second), 5u);
  EXPECT_EQ(answered_id(first), 6u);
  EXPECT_EQ(answered_id(first), 5u);

  // New requests have tickets of their own, on old connections and on new ones.
  RawClient third(options_.socket_path);
  first.send(write_request(8, ReloadCall{}));
  EXPECT_EQ(answered_id(first), 8u);
  third.send(write_request(1, ReloadCall{}));
  EXPECT_EQ(answered_id(third), 1u);
  ASSERT_EQ(commands_.asked.size(), 4u);
  std::set<std::uint64_t> tickets;
  for (const Asked& asked : commands_.asked) tickets.insert(asked.ticket);
  EXPECT_EQ(tickets.size(), 4u);
  EXPECT_FALSE(commands_.asked[2].again || commands_.asked[3].again);
}

TEST_F(Restore, OverTwoUpgradesTheTicketIsTheSame) {
  start();
  RawClient client(options_.socket_path);
  client.send(write_request(1, ReloadCall{}) + write_request(2, kRollWeb));
  EXPECT_EQ(answered_id(client), 1u);
  ASSERT_TRUE(wait_until([&] { return commands_.open_rollovers.size() == 1; }));
  const std::uint64_t ticket = commands_.asked.at(1).ticket;
  for (int i = 0; i < 2; ++i) {
    upgrade();
    ASSERT_EQ(commands_.asked.size(), 1u);
    EXPECT_EQ(commands_.asked[0].ticket, ticket);
  }
  commands_.open_rollovers.at(0)(RolloverResult{});
  EXPECT_EQ(answered_id(client), 2u);
}

TEST_F(Restore, ATicketIsNeverGivenTwice) {
  start();
  std::set<std::uint64_t> tickets;
  const auto reload = [&](RawClient& client) {
    client.send(write_request(1, ReloadCall{}));
    EXPECT_EQ(answered_id(client), 1u);
    EXPECT_TRUE(tickets.insert(commands_.asked.back().ticket).second) << tickets.size();
  };
  RawClient stays(options_.socket_path);
  for (int i = 0; i < 3; ++i) {
    reload(stays);
    reload(stays);
    RawClient goes(options_.socket_path);
    reload(goes);
    goes.close();
    ASSERT_TRUE(wait_until([&] { return server_->save().clients.size() == 1; }));
    upgrade();
  }
}

TEST_F(Restore, ANotificationIsAskedAgainAndNotAnswered) {
  start();
  RawClient client(options_.socket_path);
  client.send("{\"jsonrpc\":\"2.0\",\"method\":\"rollover\"}\n");
  ASSERT_TRUE(wait_until([&] { return commands_.open_rollovers.size() == 1; }));
  upgrade();
  ASSERT_EQ(commands_.open_rollovers.size(), 1u);
  commands_.open_rollovers[0](RolloverResult{});
  client.send(write_request(2, VersionCall{}));
  EXPECT_EQ(answered_id(client), 2u);
}

TEST_F(Restore, AFollowerThatLagsBehindMissesNothing) {
  start();
  RawClient lazy(options_.socket_path), other(options_.socket_path);
  lazy.send(write_request(1, SubscribeCall{"web", {}, {}}));
  other.send(write_request(1, SubscribeCall{"", {}, {}}));
  EXPECT_THAT(answer(other), HasSubstr("replayed"));
  ASSERT_TRUE(wait_until([&] { return server_->save().clients.at(0).following.has_value(); }));
  std::uint64_t last = 0;
  const auto publish = [&](int count) {
    for (int i = 0; i < count; ++i)
      server_->publish({++last, 0, "web", "noise", 0, {}, std::string(1024, 'x'), {}});
  };
  publish(600);
  ASSERT_GT(server_->save().clients.at(0).output.size(), 100'000u) << "the kernel's buffer has taken it all";
  restore(forget_server());
  publish(2);  // before the new one says anything
  server_->publish({last + 1000, 0, "api", "not_for_web", 0, {}, "", {}});
  server_->resume();
  publish(3);
  EXPECT_THAT(answer(lazy), HasSubstr("replayed"));
  for (std::uint64_t sequence = 1; sequence <= last; ++sequence) {
    const auto message = parse_message(answer(lazy));
    ASSERT_TRUE(message) << sequence;
    ASSERT_EQ(read_event(message->body)->sequence, sequence);
  }
  turn();
  EXPECT_EQ(lazy.line(), std::nullopt);
}

TEST_F(Restore, AClientThatHasShutDownItsSideGetsItsAnswerAndIsClosed) {
  start();
  RawClient seen(options_.socket_path), unseen(options_.socket_path);
  seen.send(write_request(1, kRollWeb));
  seen.finish();
  unseen.send(write_request(2, kRollWeb));
  ASSERT_TRUE(wait_until(
      [&] { return commands_.open_rollovers.size() == 2 && server_->save().clients.at(0).input_ended; }));
  unseen.finish();
  upgrade();
  turn();
  ASSERT_EQ(commands_.open_rollovers.size(), 2u);
  for (const auto& done : commands_.open_rollovers) done(RolloverResult{});
  EXPECT_EQ(answered_id(seen), 1u);
  EXPECT_EQ(answered_id(unseen), 2u);
  EXPECT_TRUE(wait_until([&] { return seen.closed() && unseen.closed(); }));
}

TEST_F(Restore, RequestsThatWaitForTheClientToReadAreNotLost) {
  start();
  const std::vector<ConnectionEntry> many(2000, commands_.entries[0]);  // some 300 KB an answer
  commands_.entries = many;
  RawClient client(options_.socket_path);
  for (std::uint64_t id = 1; id <= 40; ++id) client.send(write_request(id, ConnectionsCall{}));
  client.finish();
  turn();
  ASSERT_THAT(only_client().input, HasSubstr("\n")) << "whole requests wait";
  ASSERT_THAT(only_client().output, testing::Not(IsEmpty()));
  for (std::uint64_t id = 1; id <= 40; ++id) {
    if (id % 10 == 1) {
      upgrade();
      commands_.entries = many;
    }
    EXPECT_EQ(answered_id(client), id);
  }
  EXPECT_TRUE(wait_until([&] { return client.closed(); }));
}

TEST_F(Restore, ClientsInTheAcceptQueueAreServed) {
  start();
  std::vector<std::unique_ptr<RawClient>> clients;
  for (std::uint64_t id = 1; id <= 5; ++id) {
    clients.push_back(std::make_unique<RawClient>(options_.socket_path));
    clients.back()->send(write_request(id, VersionCall{}));
  }
  const ServerRecord record = forget_server();
  EXPECT_THAT(record.clients, IsEmpty());
  clients.push_back(std::make_unique<RawClient>(options_.socket_path));  // while nobody is there
  clients.back()->send(write_request(6, VersionCall{}));
  restore(record);
  server_->resume();
  for (std::size_t i = 0; i < clients.size(); ++i) EXPECT_EQ(answered_id(*clients[i]), i + 1);
}

TEST_F(Restore, NothingHappensBeforeItIsResumed) {
  start();
  RawClient client(options_.socket_path);
  client.send(write_request(7, SubscribeCall{}) + write_request(1, kRollWeb));
  ASSERT_TRUE(wait_until([&] { return commands_.open_rollovers.size() == 1; }));
  EXPECT_EQ(answered_id(client), 7u);
  const ServerRecord record = forget_server();
  client.send(write_request(2, StatusCall{}));
  RawClient next(options_.socket_path);
  next.send(write_request(3, StatusCall{}));
  restore(record);
  turn();
  EXPECT_THAT(commands_.calls, IsEmpty());
  EXPECT_EQ(server_->save(), record) << "it could be handed on as it is";
  server_->publish({1, 0, "", "upgraded", 0, {}, "", {}});
  EXPECT_EQ(client.line(), std::nullopt);
  server_->resume();
  server_->resume();  // once is enough
  EXPECT_THAT(answer(client), HasSubstr("\"upgraded\""));
  EXPECT_EQ(answered_id(client), 2u);
  EXPECT_EQ(answered_id(next), 3u);
  EXPECT_THAT(commands_.calls, ElementsAre("rollover web", "status ", "status "));
}

TEST_F(Restore, AServerThatEndsBeforeItWasResumedSaysSo) {
  start();
  RawClient first(options_.socket_path), second(options_.socket_path);
  first.send(write_request(1, kRollWeb));
  second.send(write_request(2, kRollWeb));
  ASSERT_TRUE(wait_until([&] { return commands_.open_rollovers.size() == 2; }));
  restore(forget_server());
  server_.reset();
  EXPECT_THAT(answer(first), HasSubstr("relayd ended"));
  EXPECT_THAT(answer(second), HasSubstr("relayd ended"));
  EXPECT_THAT(commands_.calls, IsEmpty());
}

TEST_F(Restore, SavingChangesNothing) {
  start();
  RawClient client(options_.socket_path);
  client.send(write_request(1, kRollWeb) + "{\"jsonrpc\"");
  ASSERT_TRUE(
      wait_until([&] { return server_->save().clients.size() == 1 && !only_client().input.empty(); }));
  EXPECT_EQ(server_->save(), server_->save());
  commands_.open_rollovers.at(0)(RolloverResult{});
  EXPECT_EQ(answered_id(client), 1u);
  client.send(":\"2.0\",\"id\":2,\"method\":\"version\"}\n");
  EXPECT_EQ(answered_id(client), 2u);
}

// The daemon may begin an upgrade inside the call that asks for it.
TEST_F(Restore, ARequestThatIsBeingCarriedOutIsSavedOnce) {
  start();
  std::optional<ServerRecord> record;
  commands_.on_rollover = [&] { record = server_->save(); };
  RawClient client(options_.socket_path);
  const std::string first = write_request(1, VersionCall{}), rollover = write_request(2, kRollWeb),
                    last = write_request(3, StatusCall{}) + "{";
  client.send(first + rollover + last);
  ASSERT_TRUE(wait_until([&] { return record.has_value(); }));
  ASSERT_EQ(record->clients.size(), 1u);
  EXPECT_EQ(record->clients[0].input, last);
  ASSERT_EQ(record->clients[0].requests.size(), 1u);
  EXPECT_EQ(record->clients[0].requests[0].line + "\n", rollover);
}

TEST_F(Restore, TheRestOfALineThatWasTooLongIsStillSkipped) {
  start();
  RawClient client(options_.socket_path);
  const std::string half(70'000, 'a');
  std::size_t sent = 0;
  ASSERT_TRUE(
      wait_until([&] { return (sent += client.send(std::string_view(half).substr(sent))) == half.size(); }));
  EXPECT_THAT(answer(client), HasSubstr("more than 65536 bytes"));
  upgrade();
  client.send(half.substr(0, 1000) + "\n" + write_request(6, VersionCall{}));
  EXPECT_EQ(answered_id(client), 6u);
}

TEST_F(Restore, AClientThatIsBeingClosedStillIs) {
  options_.limits.half_message = Duration(30);
  start();
  commands_.entries.assign(4000, commands_.entries[0]);  // some 600 KB: more than the kernel takes
  RawClient client(options_.socket_path);
  client.send(write_request(1, ConnectionsCall{}) + "{");
  ASSERT_TRUE(wait_until([&] { return server_->save().clients.size() == 1 && only_client().ending; }));
  upgrade();
  EXPECT_EQ(answered_id(client), 1u);
  EXPECT_THAT(answer(client), HasSubstr("half a message"));
  EXPECT_TRUE(wait_until([&] { return client.closed(); }));
}

}  // namespace
}  // namespace relayd::control
