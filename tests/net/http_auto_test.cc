// `protocol: auto`: who is taken for an HTTP client, and that everybody else is relayed as over tcp.
#include "tests/net/http_support.h"

namespace relayd::net::test {
namespace {

class Auto : public ::testing::TestWithParam<unsigned> {
 protected:
  Auto() : plane(http(GetParam(), config::Protocol::kAuto)) { plane.route(backend.address(), 1); }
  // The bytes, and what is said after them, both ways.
  void expect_opaque(std::string_view first) {
    Peer client = plane.client();
    client.send(first);
    Peer server = backend.accept();
    expect(server, first);
    server.send("\x01 any answer");
    expect(client, "\x01 any answer");
    client.send(std::string(kGet) + std::string(kGet));  // no longer one at a time
    expect(server, std::string(kGet) + std::string(kGet));
    client.finish();
    EXPECT_EQ(server.receive_all().bytes, "");
    server.send("the end");
    server.close();
    EXPECT_EQ(client.receive_all().bytes, "the end");
  }

  Listening backend;
  Plane plane;
};

INSTANTIATE_TEST_SUITE_P(Threads, Auto, ::testing::Values(1U, 3U), ::testing::PrintToStringParamName());

TEST_P(Auto, WhatIsNotHttp1) {
  using namespace std::string_view_literals;
  for (const std::string_view first :
       {"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"sv, "\0\0\0\x08\x04\xd2\x16\x2f"sv,
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"sv, "get / HTTP/1.1\r\nHost: a\r\n\r\n"sv, "hello\r\n"sv,
        "EHLO a\r\n"sv, "*1\r\n$4\r\nPING\r\n"sv, "SSH-2.0-OpenSSH_9.2\r\n"sv, "\r\n"sv, " "sv,
        "GET / HTTP/3.0\r\n\r\n"sv}) {
    SCOPED_TRACE(std::string(first));
    expect_opaque(first);
  }
  EXPECT_EQ(plane.counts().requests, 0U);
  EXPECT_EQ(plane.counts().answered, 0U);
}

// Its client waits for an answer and says no more: it is not kept waiting for it.
TEST_P(Auto, WhatMayStillBecomeARequest) {
  for (const std::string_view first : {"QUIT", "GET", "GET ", "GET / HTTP/1.", "GET /some/path"}) {
    SCOPED_TRACE(first);
    expect_opaque(first);
  }
}

TEST_P(Auto, AServerThatSpeaksFirst) {
  Peer client = plane.client();
  Peer server = backend.accept();
  server.send("220 ready\r\n");
  expect(client, "220 ready\r\n");
  client.send(std::string(kGet) + std::string(kGet));
  expect(server, std::string(kGet) + std::string(kGet));
}

// It speaks while the client's first bytes leave it open what they are.
TEST_P(Auto, AServerThatSpeaksDuringTheGuess) {
  Peer client = plane.client();
  Peer server = backend.accept();
  client.send("G");
  server.send("220 ready\r\n");
  expect(client, "220 ready\r\n");
  expect(server, "G");
  client.send("ET / HTTP/1.1\r\n\r\n");
  expect(server, "ET / HTTP/1.1\r\n\r\n");
}

TEST_P(Auto, AClientThatEndsDuringTheGuess) {
  for (const std::string_view first : {"", "G", "GET / HTT", "PING"}) {
    SCOPED_TRACE(first);
    Peer client = plane.client();
    client.send(first);
    client.finish();
    Peer server = backend.accept();
    EXPECT_EQ(server.receive_all().bytes, first);
    server.send("bye");
    server.close();
    EXPECT_EQ(client.receive_all().bytes, "bye");
  }
}

// A request line in pieces, and an HTTP client from then on.
TEST_P(Auto, ARequestInPieces) {
  for (std::size_t at = 1; at < kGet.size(); ++at) {
    Peer client = plane.client();
    client.send(kGet.substr(0, at));
    client.send(kGet.substr(at));
    client.send(kPost);
    Peer server = backend.accept();
    expect(server, kGet);
    server.send(kOk);
    expect(client, kOk);
    expect(server, kPost);
  }
}

// With its backend connected before it has said anything.
TEST_P(Auto, AClientThatTakesItsTime) {
  Peer client = plane.client();
  Peer server = backend.accept();
  client.send(std::string(kGet) + std::string(kGet));
  expect(server, kGet);
  EXPECT_TRUE(server.nothing_arrives(Duration(20)));
  server.send(kOk);
  expect(client, kOk);
  expect(server, kGet);
}

TEST_P(Auto, TheSwitchDuringTheGuess) {
  Listening new_one;
  Peer client = plane.client();
  Peer server = backend.accept();
  client.send("GE");
  ASSERT_TRUE(state_is(plane, "reading"));
  plane.route(new_one.address(), 2);
  plane.data->drain(Plane::kService, 1, -1, 7);
  ASSERT_TRUE(plane.wait([&] { return plane.drained.size() == 1; }));
  EXPECT_EQ(server.receive_all().bytes, "");
  client.send("T /a HTTP/1.1\r\nHost: a\r\n\r\n");
  Peer next = new_one.accept();
  expect(next, kGet);  // as a request, or as the bytes that they are
  next.send(kOk);
  expect(client, kOk);
}

// An opaque connection stays where it is.
TEST_P(Auto, TheSwitchAfterTheGuess) {
  Listening new_one;
  Peer client = plane.client();
  client.send("hello");
  Peer server = backend.accept();
  expect(server, "hello");
  plane.route(new_one.address(), 2);
  plane.data->drain(Plane::kService, 1, -1, 7);
  client.send("still there?");
  expect(server, "still there?");
  server.send("yes");
  expect(client, "yes");
  EXPECT_TRUE(plane.drained.empty());
  client.close();
  server.close();
  EXPECT_TRUE(plane.wait([&] { return plane.drained.size() == 1; }));
}

// While nobody serves, what is held is read by nobody.
TEST_P(Auto, HeldAndReleased) {
  plane.hold();
  Listening other;
  Peer opaque = plane.client();
  opaque.send("hello");
  Peer web = plane.client();
  web.send(std::string(kGet) + std::string(kGet));
  ASSERT_TRUE(plane.wait([&] { return plane.counts().held == 2; }));
  plane.route(other.address(), 2);
  Peer one = other.accept();
  Peer two = other.accept();
  const bool first_is_opaque = one.receive(1) == "h";
  Peer& of_opaque = first_is_opaque ? one : two;
  Peer& of_web = first_is_opaque ? two : one;
  expect(of_opaque, first_is_opaque ? "ello" : "hello");
  expect(of_web, first_is_opaque ? kGet : kGet.substr(1));
  EXPECT_TRUE(of_web.nothing_arrives(Duration(20)));
}

TEST_P(Auto, AHeldClientThatIsNoHttpClientIsClosed) {
  auto options = http(GetParam(), config::Protocol::kAuto);
  options.service.hold.timeout = Duration(100);
  Plane holding(options);
  Peer client = holding.client();
  client.send("hello");
  EXPECT_EQ(client.receive_all().bytes, "");
}

}  // namespace
}  // namespace relayd::net::test
