// Backends that close: what costs the client nothing, what is sent once more, and what never is.
#include <poll.h>
#include <sys/socket.h>

#include "tests/net/http_support.h"

namespace relayd::net::test {
namespace {

// Of a GET that has been sent already.
void exchange_after(Peer& client, Peer& server) {
  expect(server, kGet);
  server.send(kOk);
  expect(client, kOk);
}

const std::string kPut = "PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";

TEST(HttpLost, ABackendThatClosesBetweenRequestsCostsNothing) {
  for (const auto protocol : {config::Protocol::kHttp, config::Protocol::kAuto}) {
    for (const bool by_reset : {false, true}) {
      Plane plane(http(1, protocol));
      Listening backend;
      plane.route(backend.address());
      Peer client = plane.client();
      for (int i = 0; i < 10; ++i) {  // more often than one request may be rescued
        Peer server = first_exchange(client, backend, i % 2 == 0 ? kPost : kGet);
        by_reset ? server.reset() : server.close();
        ASSERT_TRUE(state_is(plane, "idle"));
      }
      EXPECT_EQ(plane.counts().sent_again, 0U);
      EXPECT_EQ(plane.counts().requests, 10U);
      EXPECT_EQ(plane.counts().connect_failures, 0U);
    }
  }
}

// As the one before, but the end races the request.
TEST(HttpLost, AnEndThatIsUnderWayWithTheRequest) {
  for (const bool by_reset : {false, true}) {
    Plane plane(http());
    Listening backend;
    plane.route(backend.address());
    Peer client = plane.client();
    for (int i = 0; i < 50; ++i) {
      Peer server = first_exchange(client, backend);
      by_reset ? server.reset() : server.close();
    }
    EXPECT_TRUE(plane.wait([&] { return plane.counts().requests == 50; }));
    EXPECT_EQ(plane.counts().answered, 0U);
  }
}

TEST(HttpLost, WhatIsSafeIsSentOnceMoreToAnother) {
  for (const bool by_reset : {false, true}) {
    for (const std::string& request : {std::string(kGet), kPut}) {
      Plane plane(http());
      Listening one;
      Listening other;
      plane.route({make_endpoint(one.address(), 1, 0), make_endpoint(other.address(), 1, 1)},
                  config::Balance::kRoundRobin);
      Peer client = plane.client();
      client.send(request);
      const bool first = one.has_client(Duration(200));
      Listening& chosen = first ? one : other;
      Listening& left = first ? other : one;
      {
        Peer server = chosen.accept();
        expect(server, request);
        by_reset ? server.reset() : server.close();
      }
      Peer server = left.accept();
      expect(server, request);
      server.send(kOk);
      expect(client, kOk);
      EXPECT_EQ(plane.counts().sent_again, 1U);
      exchange(client, server, kPost, kOk);
    }
  }
}

TEST(HttpLost, TheSecondFailureIsAnswered) {
  Plane plane(http());
  Listening backend;
  plane.route(backend.address());
  Peer client = plane.client();
  client.send(kGet);
  for (int i = 0; i < 2; ++i) {
    Peer server = backend.accept();
    expect(server, kGet);
  }
  expect_answer(client, 502);
  EXPECT_FALSE(backend.has_client(Duration(20)));
  EXPECT_EQ(plane.counts().answered, 1U);
  EXPECT_EQ(plane.counts().sent_again, 1U);
}

// The connection has served before, and its instance may well serve others: but another one is surer.
TEST(HttpLost, AKeptConnectionThatEndsSendsTheRequestToAnother) {
  for (int i = 0; i < 10; ++i) {
    Plane plane(http());
    Listening one;
    Listening other;
    plane.route({make_endpoint(one.address(), 1, 0), make_endpoint(other.address(), 1, 1)});
    Peer client = plane.client();
    client.send(kGet);
    const bool first = one.has_client(Duration(200));
    Peer server = (first ? one : other).accept();
    exchange_after(client, server);
    client.send(kGet);
    expect(server, kGet);
    server.close();
    Peer second = (first ? other : one).accept();
    exchange_after(client, second);
  }
}

// A process that is killed ends its connections before its listener: who comes in between is reset in its
// queue, without having been read.
TEST(HttpLost, AQueueThatEndsWithItsProcessCostsNoAttempt) {
  Plane plane(http());
  Listening backend;
  plane.route(backend.address(), 1);
  Peer client = plane.client();
  Peer server = first_exchange(client, backend);
  client.send(kGet);
  expect(server, kGet);
  server.close();
  ASSERT_TRUE(backend.has_client(kPatience));
  backend.close();
  plane.hold();
  ASSERT_TRUE(state_is(plane, "held"));
  Listening next;
  plane.route(next.address(), 1);
  Peer other = next.accept();
  exchange_after(client, other);
  EXPECT_EQ(plane.counts().answered, 0U);
}

// The reset that it is to get has nobody to go to any more, and what was on its way before it neither.
TEST(HttpLost, AClientThatResetsAfterItsBackendIsForgotten) {
  Plane plane(http());
  Listening backend;
  plane.route(backend.address());
  Peer client = plane.client(4096);
  client.send(kGet);
  Peer server = backend.accept();
  expect(server, kGet);
  const std::string response = with_length(pattern(30'000'000, 1));
  pollfd room{.fd = server.fd(), .events = POLLOUT, .revents = 0};
  for (std::size_t sent = 0; sent < response.size() && ::poll(&room, 1, 200) > 0;) {  // until it is stuck
    const ssize_t taken =
        ::send(server.fd(), response.data() + sent, response.size() - sent, MSG_DONTWAIT | MSG_NOSIGNAL);
    ASSERT_GT(taken, 0);
    sent += static_cast<std::size_t>(taken);
  }
  server.reset();
  client.reset();
  EXPECT_TRUE(plane.wait([&] { return plane.list().empty(); }));
}

TEST(HttpLost, WhatMayHaveHadAnEffectIsNotSentAgain) {
  Plane plane(http());
  Listening backend;
  plane.route(backend.address());
  Peer client = plane.client();
  Peer server = first_exchange(client, backend);
  client.send(kPost);
  expect(server, kPost);
  server.close();
  expect_answer(client, 502);
  EXPECT_FALSE(backend.has_client(Duration(20)));
  EXPECT_EQ(plane.counts().sent_again, 0U);
}

TEST(HttpLost, ABodyThatIsNotWholeInTheBufferIsNotSentAgain) {
  Plane plane(http());
  Listening backend;
  plane.route(backend.address());
  Peer client = plane.client();
  client.send("PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n");
  Peer server = backend.accept();
  expect(server, "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n");
  const std::string half = pattern(100'000, 1);
  client.send(half);
  EXPECT_EQ(server.receive(half.size()), half);
  server.close();
  expect_answer(client, 502);
  EXPECT_FALSE(backend.has_client(Duration(20)));
}

TEST(HttpLost, AfterAnyByteOfTheResponseTheClientSeesTheBreak) {
  for (const std::string& begun :
       {std::string("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"),
        std::string("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab")}) {
    Plane plane(http());
    Listening backend;
    plane.route(backend.address());
    Peer client = plane.client();
    client.send(kGet);
    Peer server = backend.accept();
    expect(server, kGet);
    server.send(begun);
    server.close();
    EXPECT_EQ(client.receive_all().bytes, begun);
    EXPECT_FALSE(backend.has_client(Duration(20)));
    EXPECT_EQ(plane.counts().sent_again, 0U);
  }
}

TEST(HttpLost, AnEndWithinTheHeadOrBehindAnInterimOneIsAnswered) {
  for (const std::string& begun :
       {std::string("HTTP/1.1 200 OK\r\nConte"), std::string("HTTP/1.1 103 Early Hints\r\n\r\n")}) {
    Plane plane(http());
    Listening backend;
    plane.route(backend.address());
    Peer client = plane.client();
    client.send(kGet);
    Peer server = backend.accept();
    expect(server, kGet);
    server.send(begun);
    const bool interim = begun.ends_with("\r\n\r\n");
    if (interim) expect(client, begun);
    server.close();
    expect_answer(client, 502);
    EXPECT_FALSE(backend.has_client(Duration(20)));
  }
}

// Bytes that nobody asked for cost the backend's connection, not the client's.
TEST(HttpLost, MoreThanOneResponseForARequest) {
  Plane plane(http());
  Listening backend;
  plane.route(backend.address());
  Peer client = plane.client();
  client.send(kGet);
  Peer server = backend.accept();
  expect(server, kGet);
  server.send(std::string(kOk) + std::string(kOk));
  expect(client, kOk);
  first_exchange(client, backend, kPost);
}

TEST(HttpLost, AnAnswerBeforeTheQuestionIsThrownAway) {
  Plane plane(http());
  Listening backend;
  plane.route(backend.address());
  Peer client = plane.client();
  Peer server = first_exchange(client, backend);
  server.send("HTTP/1.1 408 Request Timeout\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
  server.close();
  ASSERT_TRUE(state_is(plane, "idle"));
  first_exchange(client, backend);
}

}  // namespace
}  // namespace relayd::net::test
