// Kept clients and the switch: each goes on, on its one connection, with the generation that serves then.
#include "tests/net/http_support.h"

namespace relayd::net::test {
namespace {

class HttpCrossing : public ::testing::TestWithParam<std::pair<unsigned, config::Protocol>> {
 protected:
  static Plane::Options options() { return http(GetParam().first, GetParam().second); }
  static bool drains(Plane& plane, std::uint32_t generation, std::uint64_t token) {
    plane.data->drain(Plane::kService, generation, -1, token);
    return plane.wait([&] { return !plane.drained.empty() && plane.drained.back() == token; });
  }
};

INSTANTIATE_TEST_SUITE_P(
    Each, HttpCrossing,
    ::testing::Values(std::pair(1U, config::Protocol::kHttp), std::pair(3U, config::Protocol::kHttp),
                      std::pair(1U, config::Protocol::kAuto), std::pair(3U, config::Protocol::kAuto)),
    [](const auto& tested) {
      return std::string(tested.param.second == config::Protocol::kHttp ? "http" : "auto") + "_" +
             std::to_string(tested.param.first);
    });

TEST_P(HttpCrossing, AnIdleClientMovesAtTheSwitch) {
  Plane plane(options());
  Listening old_one;
  Listening new_one;
  plane.route(old_one.address(), 1);
  Peer client = plane.client();
  Peer old_server = first_exchange(client, old_one);
  plane.route(new_one.address(), 2);
  ASSERT_TRUE(drains(plane, 1, 7));
  EXPECT_EQ(old_server.receive_all().bytes, "");
  EXPECT_EQ(plane.counts().active, 1U);
  EXPECT_TRUE(state_is(plane, "idle"));
  Peer new_server = first_exchange(client, new_one);
  exchange(client, new_server, kGet, kOk);
  EXPECT_TRUE(plane.wait([&] { return plane.counts().requests == 3; }));
  EXPECT_EQ(plane.counts().crossings, 1U);
  EXPECT_EQ(plane.counts().sent_again, 0U);
  EXPECT_EQ(plane.counts().answered, 0U);
}

TEST_P(HttpCrossing, ABusyClientMovesAfterItsResponse) {
  Plane plane(options());
  Listening old_one;
  Listening new_one;
  plane.route(old_one.address(), 1);
  Peer client = plane.client();
  client.send(kGet);
  Peer old_server = old_one.accept();
  expect(old_server, kGet);
  old_server.send("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab");
  plane.route(new_one.address(), 2);
  plane.data->drain(Plane::kService, 1, -1, 7);
  expect(client, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nab");
  EXPECT_TRUE(plane.drained.empty());
  old_server.send("cd");
  expect(client, "cd");
  EXPECT_EQ(old_server.receive_all().bytes, "");
  EXPECT_TRUE(plane.wait([&] { return plane.drained.size() == 1; }));
  first_exchange(client, new_one);
  EXPECT_TRUE(plane.wait([&] { return plane.counts().crossings == 1; }));
}

TEST_P(HttpCrossing, WhileNobodyServesARequestIsHeld) {
  Plane plane(options());
  Listening old_one;
  Listening new_one;
  plane.route(old_one.address(), 1);
  Peer client = plane.client();
  Peer old_server = first_exchange(client, old_one);
  plane.hold();
  ASSERT_TRUE(drains(plane, 1, 7));
  EXPECT_EQ(old_server.receive_all().bytes, "");
  EXPECT_EQ(plane.counts().held, 0U);
  client.send(kPost);
  ASSERT_TRUE(plane.wait([&] { return plane.counts().held == 1; }));
  EXPECT_TRUE(client.nothing_arrives(Duration(20)));
  plane.route(new_one.address(), 2);
  Peer new_server = new_one.accept();
  expect(new_server, kPost);
  new_server.send(kOk);
  expect(client, kOk);
  EXPECT_EQ(plane.counts().held, 0U);
}

TEST_P(HttpCrossing, AtAStopTheNextRequestIsRefusedInWords) {
  Plane plane(options());
  Listening backend;
  plane.route(backend.address(), 1);
  Peer client = plane.client();
  first_exchange(client, backend);
  plane.hold();
  plane.data->close_held(Plane::kService);
  ASSERT_TRUE(drains(plane, 1, 7));
  client.send(kGet);
  expect_answer(client, 503);
}

// A stop ends kept clients between two requests, and nobody else.
TEST_P(HttpCrossing, AtAStopIdleClientsEndAndOthersAreServed) {
  Plane plane(options());
  Listening backend;
  plane.route(backend.address(), 1);
  Peer idle = plane.client();
  Peer idle_server = first_exchange(idle, backend);
  Peer busy = plane.client();
  busy.send(kPost);
  Peer busy_server = backend.accept();
  expect(busy_server, kPost);
  bool stopped = false;
  plane.data->stop_accepting(Plane::kService, [&] { stopped = true; });
  EXPECT_EQ(idle.receive_all().bytes, "");
  ASSERT_TRUE(plane.wait([&] { return stopped; }));
  plane.hold();
  plane.data->drain(Plane::kService, 1, -1, 7);
  plane.list();
  busy.send(kGet);  // while the other one is still being answered
  busy_server.send(kOk);
  expect(busy, kOk);
  expect(busy_server, kGet);
  busy_server.send("HTTP/1.1 200 OK\r\nconnection: keep-alive\r\nContent-Length: 2\r\n\r\nok");
  // Nothing more is on its way: the client is told that there will be no next one.
  EXPECT_EQ(busy.receive_all().bytes, kLastOk);
  EXPECT_TRUE(plane.wait([&] { return plane.drained.size() == 1; }));
}

// Its request is on the way, and is answered before anything ends.
TEST_P(HttpCrossing, AtAStopWhoIsWithinAHeadIsServed) {
  Plane plane(options());
  Listening backend;
  plane.route(backend.address(), 1);
  Peer client = plane.client();
  client.send(kGet.substr(0, 10));
  ASSERT_TRUE(state_is(plane, "reading"));
  bool stopped = false;
  plane.data->stop_accepting(Plane::kService, [&] { stopped = true; });
  plane.list();
  EXPECT_FALSE(stopped);
  client.send(kGet.substr(10));
  Peer server = backend.accept();
  expect(server, kGet);
  server.send(kOk);
  EXPECT_EQ(client.receive_all().bytes, kLastOk);
  EXPECT_TRUE(plane.wait([&] { return stopped; }));
}

TEST_P(HttpCrossing, AtAStopWhoCameJustNowMaySpeakYetAndTheSilentEnd) {
  Plane plane(options());
  Listening backend;
  plane.route(backend.address(), 1);
  Peer silent = plane.client();
  Peer late = plane.client();
  ASSERT_TRUE(plane.wait([&] { return plane.counts().active == 2; }));
  bool stopped = false;
  plane.data->stop_accepting(Plane::kService, [&] { stopped = true; });
  plane.list();
  EXPECT_FALSE(stopped);
  late.send(kGet);
  for (;;) {  // with `auto` the silent one has a backend too
    Peer server = backend.accept();
    if (!server.nothing_arrives(Duration(200))) {
      expect(server, kGet);
      server.send(kOk);
      break;
    }
  }
  EXPECT_TRUE(late.receive_all().bytes.ends_with("\r\nConnection: close\r\n\r\nok"));
  EXPECT_EQ(silent.receive_all().error, 0);
  EXPECT_TRUE(plane.wait([&] { return stopped; }));
}

// Its end would pass for the end of the response.
TEST_P(HttpCrossing, AResponseWithoutALengthThatIsCutIsReset) {
  Plane plane(options());
  Listening backend;
  plane.route(backend.address(), 1);
  Peer client = plane.client();
  client.send(kGet);
  Peer server = backend.accept();
  expect(server, kGet);
  server.send("HTTP/1.1 200 OK\r\n\r\nabc");
  expect(client, "HTTP/1.1 200 OK\r\n\r\nabc");
  plane.hold();
  plane.data->cut(Plane::kService, 1, -1, ConnectionKind::kAll);
  EXPECT_EQ(client.receive_all().error, ECONNRESET);
}

TEST(HttpKept, OneWithItsBackendMakesRoomToo) {
  auto some = http();
  some.service.limits.max_connections = 2;
  Plane plane(some);
  Listening backend;
  plane.route(backend.address(), 1);
  Peer first = plane.client();
  Peer first_server = first_exchange(first, backend);
  Peer second = plane.client();
  Peer second_server = first_exchange(second, backend);
  Peer third = plane.client();
  third.send(kGet);
  Peer third_server = backend.accept();
  expect(third_server, kGet);
  third_server.send(kOk);
  expect(third, kOk);
  EXPECT_EQ(plane.counts().active, 2U);
  EXPECT_EQ(plane.counts().cut, 0U);
}

TEST(HttpKept, AfterAReloadToTcpTheyDoNotHoldUpADrain) {
  auto some = http();
  Plane plane(some);
  Listening backend;
  plane.route(backend.address(), 1);
  Peer client = plane.client();
  Peer server = first_exchange(client, backend);
  some.service.protocol = config::Protocol::kTcp;
  plane.data->update_service(Plane::kService, some.service, {&plane.listener}, [] {});
  plane.hold();
  plane.data->drain(Plane::kService, 1, -1, 7);
  EXPECT_TRUE(plane.wait([&] { return plane.drained.size() == 1; }));
}

// Whoever has asked nothing for a while makes room before anybody has to wait.
TEST(HttpKept, TheOldestIdleOneMakesRoom) {
  auto some = http();
  some.service.limits.max_connections = 2;
  Plane plane(some);
  Listening backend;
  plane.route(backend.address(), 1);
  Peer first = plane.client();
  first_exchange(first, backend);  // the app closes, here and below
  ASSERT_TRUE(plane.wait([&] { return plane.list().front().idle >= Duration(50); }));
  Peer second = plane.client();
  first_exchange(second, backend);
  Peer third = plane.client();
  third.send(kGet);
  Peer server = backend.accept();
  expect(server, kGet);
  server.send(kOk);
  expect(third, kOk);
  EXPECT_EQ(first.receive_all().bytes, "");
  first_exchange(second, backend);
}

// A kept client waits behind those who came while it had nothing to ask.
TEST(HttpKept, IsHeldInTheOrderOfItsRequest) {
  Plane plane(http());
  Listening old_one;
  Listening new_one;
  plane.route(old_one.address(), 1);
  Peer kept = plane.client();
  first_exchange(kept, old_one);
  plane.hold();
  Peer newcomer = plane.client();
  newcomer.send(kPost);
  ASSERT_TRUE(plane.wait([&] { return plane.counts().held == 1; }));
  kept.send(kGet);
  ASSERT_TRUE(plane.wait([&] { return plane.counts().held == 2; }));
  plane.route(new_one.address(), 2);
  Peer server = new_one.accept();
  expect(server, kPost);
  server = new_one.accept();
  expect(server, kGet);
}

// A client's time of waiting begins anew with each request.
TEST_P(HttpCrossing, EachRequestIsHeldForTheWholeTime) {
  auto some = options();
  some.service.hold.timeout = Duration(400);
  Plane plane(some);
  Listening backend;
  Peer client = plane.client();
  client.send(kGet);
  ASSERT_TRUE(plane.wait([&] { return plane.counts().held == 1; }));
  plane.route(backend.address(), 1);
  Peer server = backend.accept();
  expect(server, kGet);
  const TimePoint until = monotonic_now() + Duration(500);
  plane.wait([&] { return monotonic_now() > until; });  // longer than hold.timeout
  server.send(kOk);
  expect(client, kOk);
  plane.hold();
  ASSERT_TRUE(drains(plane, 1, 7));
  client.send(kGet);
  ASSERT_TRUE(plane.wait([&] { return plane.counts().held == 1; }));
  EXPECT_TRUE(client.nothing_arrives(Duration(100)));
}

TEST_P(HttpCrossing, ManyInARow) {
  Plane plane(options());
  std::vector<Peer> clients;
  for (int i = 0; i < 8; ++i) clients.push_back(plane.client());
  for (std::uint32_t generation = 1; generation <= 20; ++generation) {
    Listening backend;
    plane.route(backend.address(), generation);
    if (generation > 1) {
      ASSERT_TRUE(drains(plane, generation - 1, generation));
    }
    std::vector<Peer> servers;
    for (Peer& client : clients) client.send(kGet);
    for (std::size_t i = 0; i < clients.size(); ++i) {
      servers.push_back(backend.accept());
      expect(servers.back(), kGet);
      servers.back().send(with_length(std::to_string(generation)));
    }
    for (Peer& client : clients) expect(client, with_length(std::to_string(generation)));
    if (generation % 3 == 0) {
      plane.hold();
      ASSERT_TRUE(drains(plane, generation, 1000 + generation));
    }
  }
  EXPECT_TRUE(plane.wait([&] { return plane.counts().requests == 160; }));
  EXPECT_EQ(plane.counts().crossings, 8U * 19U);
  EXPECT_EQ(plane.counts().accepted, 8U);
  EXPECT_EQ(plane.counts().answered, 0U);
}

TEST_P(HttpCrossing, AClientOfWhomNothingIsKnownMovesToo) {
  Plane plane(options());
  Listening old_one;
  Listening new_one;
  plane.route(old_one.address(), 1);
  Peer client = plane.client();
  ASSERT_TRUE(plane.wait([&] { return plane.list().size() == 1; }));
  plane.route(new_one.address(), 2);
  ASSERT_TRUE(drains(plane, 1, 7));
  first_exchange(client, new_one);
}

// A head that has begun to come belongs to a request that has not been made.
TEST_P(HttpCrossing, WithinAHead) {
  Plane plane(options());
  Listening old_one;
  Listening new_one;
  plane.route(old_one.address(), 1);
  Peer client = plane.client();
  Peer old_server = first_exchange(client, old_one);
  client.send(kGet.substr(0, 20));
  ASSERT_TRUE(state_is(plane, "reading"));
  plane.route(new_one.address(), 2);
  ASSERT_TRUE(drains(plane, 1, 7));
  client.send(kGet.substr(20));
  Peer new_server = new_one.accept();
  expect(new_server, kGet);
  EXPECT_EQ(old_server.receive_all().bytes, "");
}

// The last request of a connection crosses as well.
TEST_P(HttpCrossing, WithTheLastRequest) {
  Plane plane(options());
  Listening old_one;
  Listening new_one;
  plane.route(old_one.address(), 1);
  Peer client = plane.client();
  Peer old_server = first_exchange(client, old_one);
  plane.route(new_one.address(), 2);
  ASSERT_TRUE(drains(plane, 1, 7));
  const std::string last = "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
  client.send(last);
  Peer new_server = new_one.accept();
  expect(new_server, last);
  new_server.send("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nto the end");
  new_server.close();
  EXPECT_TRUE(client.receive_all().bytes.ends_with("to the end"));
  EXPECT_TRUE(plane.wait([&] { return plane.counts().requests == 2; }));
  EXPECT_EQ(plane.counts().crossings, 1U);
}

}  // namespace
}  // namespace relayd::net::test
