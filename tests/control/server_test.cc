#include <gmock/gmock.h>

#include "control/server/dispatch.h"
#include "tests/control/control_fixture.h"

namespace relayd::control {
namespace {

using testing::HasSubstr;

class ControlServer : public ControlFixture {
 protected:
  std::string answer(RawClient& client) {
    std::optional<std::string> line;
    EXPECT_TRUE(wait_until([&] { return (line = client.line()).has_value() || client.closed(); }));
    return line.value_or("(closed)");
  }
  std::string ask(RawClient& client, const std::string& line) {
    client.send(line + "\n");
    return answer(client);
  }
};

TEST_F(ControlServer, AnswersEveryMethod) {
  start();
  RawClient client(options_.socket_path);
  const auto call = [&](const Call& what) {
    const auto message = parse_message((client.send(write_request(4, what)), answer(client)));
    EXPECT_TRUE(message && message->id == 4u && !message->failure) << method_name(what);
    return message ? message->body : "";
  };
  EXPECT_EQ(read_status(call(StatusCall{"web"}))->services.at(0).generation, 2u);
  for (const Call& simple : std::vector<Call>{AbortCall{"web"}, PauseCall{"web"}, ResumeCall{},
                                              ScaleCall{"web", 3}, StopCall{true}}) {
    EXPECT_EQ(read_done(call(simple))->message, "done as asked");
  }
  EXPECT_EQ(read_reload(call(ReloadCall{}))->needs_restart, std::vector<std::string>{"threads"});
  EXPECT_EQ(read_connections(call(ConnectionsCall{"web", 2}))->connections.at(0).id, 7u);
  EXPECT_EQ(read_version(call(VersionCall{}))->name, "relayd");
  commands_.events = {
      {1, 0, "web", "a", 0, {}, "", {}}, {2, 0, "api", "b", 0, {}, "", {}}, {3, 0, "", "c", 0, {}, "", {}}};
  EXPECT_EQ(read_events(call(RecentCall{"web", std::nullopt, std::nullopt}))->events.size(), 2u);
  EXPECT_EQ(read_events(call(RecentCall{"", 1, 1}))->events.at(0).sequence, 3u);
  EXPECT_THAT(commands_.calls, testing::IsSupersetOf({"abort web", "pause web", "resume ", "scale web 3",
                                                      "stop now", "reload", "connections web 2"}));
}

TEST_F(ControlServer, RolloverCarriesItsParameters) {
  start();
  commands_.instant_rollover = RolloverResult{"web", "hot", "done", "", 2, 3, 900, true, {}};
  RawClient client(options_.socket_path);
  client.send(write_request(1, RolloverCall{"web", "hot", {{"A", "b=c"}}, true, true, {"a:1", "b:2"}}));
  EXPECT_EQ(read_rollover(parse_message(answer(client))->body)->to, 3u);
  ASSERT_EQ(commands_.rollovers.size(), 1u);
  EXPECT_EQ(commands_.rollovers[0].mode, "hot");
  EXPECT_EQ(commands_.rollovers[0].env.at("A"), "b=c");
  EXPECT_TRUE(commands_.rollovers[0].until_drained);
  EXPECT_TRUE(commands_.rollovers[0].dry_run);
  EXPECT_EQ(commands_.rollovers[0].targets, (std::vector<std::string>{"a:1", "b:2"}));
}

TEST_F(ControlServer, ASlowRolloverDoesNotBlockAStatusOnTheSameConnection) {
  start();
  RawClient client(options_.socket_path);
  client.send(write_request(1, RolloverCall{"web", {}, {}, false, false}) + write_request(2, StatusCall{}));
  EXPECT_EQ(parse_message(answer(client))->id, 2u);
  ASSERT_EQ(commands_.open_rollovers.size(), 1u);
  commands_.open_rollovers[0](RolloverResult{"web", "phased", "done", "", 1, 2, 5, false, {}});
  EXPECT_EQ(parse_message(answer(client))->id, 1u);
}

TEST_F(ControlServer, ByteByByteAndSeveralAtOnce) {
  start();
  RawClient client(options_.socket_path);
  for (const char byte : write_request(1, StatusCall{})) {
    client.send(std::string_view(&byte, 1));
    loop_.run_nowait();
  }
  EXPECT_EQ(parse_message(answer(client))->id, 1u);
  client.send("\r\n\n" + write_request(2, VersionCall{}) + write_request(3, VersionCall{}));
  EXPECT_EQ(parse_message(answer(client))->id, 2u);
  EXPECT_EQ(parse_message(answer(client))->id, 3u);
}

TEST_F(ControlServer, BrokenLinesAreAnsweredAndTheConnectionGoesOn) {
  start();
  RawClient client(options_.socket_path);
  EXPECT_THAT(ask(client, "nonsense"), HasSubstr("-32700"));
  EXPECT_THAT(ask(client, std::string("{\"a\0b\":1}", 9)), HasSubstr("-32700"));
  EXPECT_THAT(ask(client, "[]"), HasSubstr("-32600"));
  EXPECT_THAT(ask(client, R"({"jsonrpc":"2.0","id":8,"method":"version"})"),
              HasSubstr("\"id\":8,\"result\""));
}

TEST_F(ControlServer, ANotificationIsCarriedOutAndNotAnswered) {
  start();
  RawClient client(options_.socket_path);
  client.send("{\"jsonrpc\":\"2.0\",\"method\":\"abort\"}\n{\"jsonrpc\":\"2.0\",\"method\":\"fly\"}\n");
  EXPECT_THAT(ask(client, R"({"jsonrpc":"2.0","id":8,"method":"version"})"), HasSubstr("\"id\":8"));
  EXPECT_THAT(commands_.calls, testing::Contains("abort "));
}

TEST_F(ControlServer, AnExceptionOfTheDaemonsIsAnAnswer) {
  start();
  commands_.throws = true;
  RawClient client(options_.socket_path);
  EXPECT_THAT(ask(client, R"({"jsonrpc":"2.0","id":1,"method":"status"})"), HasSubstr("-32000"));
}

TEST_F(ControlServer, HalfAMessageThenCloseHarmsNobody) {
  start();
  RawClient good(options_.socket_path);
  {
    RawClient bad(options_.socket_path);
    bad.send(R"({"jsonrpc":"2.0","id":1,"method":"sto)");
    for (int i = 0; i < 5; ++i) loop_.run_once();
  }
  EXPECT_THAT(ask(good, R"({"jsonrpc":"2.0","id":8,"method":"version"})"), HasSubstr("\"id\":8"));
  EXPECT_THAT(commands_.calls, testing::Not(testing::Contains("stop")));
}

TEST_F(ControlServer, AClientThatShutsDownItsSideStillGetsItsAnswers) {
  start();
  RawClient client(options_.socket_path);
  client.send(write_request(1, RolloverCall{"web", {}, {}, false, false}));
  client.finish();
  ASSERT_TRUE(wait_until([&] { return commands_.open_rollovers.size() == 1; }));
  for (int i = 0; i < 5; ++i) loop_.run_once();
  commands_.open_rollovers[0](RolloverResult{});
  EXPECT_EQ(parse_message(answer(client))->id, 1u);
  EXPECT_TRUE(wait_until([&] { return client.closed(); }));
}

TEST_F(ControlServer, AReplyAfterTheClientHasGoneIsDropped) {
  start();
  {
    RawClient client(options_.socket_path);
    client.send(write_request(1, RolloverCall{"web", {}, {}, false, false}));
    ASSERT_TRUE(wait_until([&] { return commands_.open_rollovers.size() == 1; }));
  }
  for (int i = 0; i < 5; ++i) loop_.run_once();
  commands_.open_rollovers[0](RolloverResult{});
  RawClient next(options_.socket_path);
  EXPECT_THAT(ask(next, R"({"jsonrpc":"2.0","id":8,"method":"version"})"), HasSubstr("\"id\":8"));
}

TEST_F(ControlServer, AReplyAfterTheServerHasGoneIsDropped) {
  start();
  RawClient client(options_.socket_path);
  client.send(write_request(1, RolloverCall{"web", {}, {}, false, false}));
  ASSERT_TRUE(wait_until([&] { return commands_.open_rollovers.size() == 1; }));
  server_.reset();
  const auto message = parse_message(answer(client));
  ASSERT_TRUE(message && message->failure) << "what is outstanding is answered when the server ends";
  EXPECT_THAT(message->failure->message, HasSubstr("relayd ended"));
  commands_.open_rollovers[0](RolloverResult{});
}

TEST_F(ControlServer, EventsGoToThoseWhoFollow) {
  start();
  commands_.events = {{1, 0, "web", "old", 0, {}, "", {}}, {2, 0, "web", "older", 0, {}, "", {}}};
  RawClient all(options_.socket_path), web(options_.socket_path), nobody(options_.socket_path);
  EXPECT_THAT(ask(all, R"({"jsonrpc":"2.0","id":1,"method":"events.subscribe"})"),
              HasSubstr("\"replayed\":0"));
  EXPECT_THAT(
      ask(web,
          R"({"jsonrpc":"2.0","id":1,"method":"events.subscribe","params":{"service":"web","since":1}})"),
      HasSubstr("\"replayed\":1"));
  EXPECT_THAT(answer(web), HasSubstr("\"older\""));
  EXPECT_THAT(
      ask(nobody, R"({"jsonrpc":"2.0","id":1,"method":"events.subscribe","params":{"service":"wbe"}})"),
      HasSubstr("-32003"));
  server_->publish({3, 0, "api", "for_api", 0, {}, "", {}});
  server_->publish({4, 0, "web", "for_web", 0, {}, "", {}});
  server_->publish({5, 0, "", "for_all", 0, {}, "", {}});
  EXPECT_THAT(answer(all), HasSubstr("for_api"));
  EXPECT_THAT(answer(all), HasSubstr("for_web"));
  EXPECT_THAT(answer(all), HasSubstr("for_all"));
  EXPECT_THAT(answer(web), HasSubstr("for_web"));
  EXPECT_THAT(answer(web), HasSubstr("for_all"));
  EXPECT_THAT(ask(nobody, R"({"jsonrpc":"2.0","id":8,"method":"version"})"), HasSubstr("\"id\":8"));
}

TEST_F(ControlServer, TheStopReplyLeavesBeforeTheServerEnds) {
  start();
  RawClient client(options_.socket_path);
  client.send(write_request(1, StopCall{}));
  ASSERT_TRUE(wait_until([&] { return !commands_.calls.empty(); }));
  server_.reset();
  EXPECT_EQ(parse_message(answer(client))->id, 1u);
  EXPECT_TRUE(client.closed());
  EXPECT_NE(::access(options_.socket_path.c_str(), F_OK), 0) << "the socket file is removed";
}

TEST_F(ControlServer, AStaleSocketFileIsReplacedAndALiveOneIsNot) {
  {
    Descriptor stale(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const auto address = SocketAddress::unix_path(options_.socket_path);
    ASSERT_EQ(::bind(stale.get(), address->get(), address->length()), 0);
  }
  start();
  Loop other;
  const auto second = Server::start(other, options_, commands_);
  ASSERT_FALSE(second);
  EXPECT_THAT(second.error().message, HasSubstr("another relayd answers at " + options_.socket_path));
  RawClient client(options_.socket_path);
  EXPECT_THAT(ask(client, R"({"jsonrpc":"2.0","id":8,"method":"version"})"), HasSubstr("\"id\":8"));
  EXPECT_TRUE(other.close());
}

TEST_F(ControlServer, AFileThatIsNoSocketIsLeftAlone) {
  Descriptor file(::open(options_.socket_path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  const auto server = Server::start(loop_, options_, commands_);
  ASSERT_FALSE(server);
  EXPECT_THAT(server.error().message, HasSubstr("no socket"));
  EXPECT_EQ(::access(options_.socket_path.c_str(), F_OK), 0);
}

TEST_F(ControlServer, AFileThatSomebodyHasRemovedIsMadeAgain) {
  start();
  const std::string version = R"({"jsonrpc":"2.0","id":8,"method":"version"})";
  RawClient before(options_.socket_path);
  EXPECT_THAT(ask(before, version), HasSubstr("\"id\":8"));
  EXPECT_EQ(server_->bind_again().value(), false) << "it is there";
  for (int round = 0; round < 3; ++round) {
    ASSERT_EQ(::unlink(options_.socket_path.c_str()), 0);
    EXPECT_EQ(server_->bind_again().value(), true);
    EXPECT_EQ(server_->bind_again().value(), false);
    struct stat status {};
    ASSERT_EQ(::stat(options_.socket_path.c_str(), &status), 0);
    EXPECT_EQ(status.st_mode & 0777, options_.mode);
    RawClient after(options_.socket_path);
    EXPECT_THAT(ask(after, version), HasSubstr("\"id\":8"));
  }
  EXPECT_THAT(ask(before, version), HasSubstr("\"id\":8")) << "who was there stays";
}

TEST_F(ControlServer, AFileInItsPlaceThatIsNoSocketIsLeftAlone) {
  start();
  ASSERT_EQ(::unlink(options_.socket_path.c_str()), 0);
  Descriptor file(::open(options_.socket_path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  const auto again = server_->bind_again();
  ASSERT_FALSE(again);
  EXPECT_THAT(again.error().message, HasSubstr("no socket"));
  ASSERT_EQ(::unlink(options_.socket_path.c_str()), 0);
  EXPECT_EQ(server_->bind_again().value(), true);
}

TEST_F(ControlServer, ASocketFileThatIsNoLongerOursIsNotRemoved) {
  start();
  const std::string aside = folder_ + "/aside";
  ASSERT_EQ(::rename(options_.socket_path.c_str(), aside.c_str()), 0);
  Descriptor other(::open(options_.socket_path.c_str(), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
  server_.reset();
  EXPECT_EQ(::access(options_.socket_path.c_str(), F_OK), 0);
  ::unlink(aside.c_str());
}

}  // namespace
}  // namespace relayd::control
