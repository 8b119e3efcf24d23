// PROXY headers: those that clients send, and those that instances get.
#include <set>

#include "proxy/base/proxy_protocol.h"
#include "tests/net/support.h"

namespace relayd::net::test {
namespace {

constexpr char kFrom[] = "192.0.2.7:4711";
constexpr char kTo[] = "198.51.100.1:443";

std::string header(ProxyVersion version, const char* from = kFrom, const char* to = kTo) {
  const SocketAddress source = *SocketAddress::parse(from);
  const SocketAddress destination = *SocketAddress::parse(to);
  return encode_proxy_header(version, &source, &destination);
}

config::Service service(bool accept, config::ProxyProtocol send) {
  config::Service service;
  service.proxy_protocol = {.accept = accept, .send = send};
  return service;
}

Plane::Options with(config::Service service, unsigned threads = 1) {
  return {.threads = threads, .service = std::move(service)};
}

// Reads a header from the front of what comes, and nothing behind it.
ProxyHeader receive_header(Peer& peer) {
  std::string bytes;
  for (;;) {
    bytes += peer.receive(1);
    const auto parsed = parse_proxy_header(bytes);
    if (!parsed) {
      ADD_FAILURE() << parsed.error().message;
      return {};
    }
    const std::optional<ProxyHeader>& found = *parsed;
    if (found) return *found;
    if (testing::Test::HasFailure()) return {};
  }
}

class Accepting : public ::testing::TestWithParam<ProxyVersion> {
 protected:
  Accepting() : plane_(with(service(true, config::ProxyProtocol::kOff))) { plane_.route(backend_.address()); }
  bool refused(std::uint64_t count) {
    return plane_.wait([&] { return plane_.counts().proxy_refused == count && plane_.counts().active == 0; });
  }

  Plane plane_;
  Listening backend_;
};
INSTANTIATE_TEST_SUITE_P(Each, Accepting, ::testing::Values(ProxyVersion::kV1, ProxyVersion::kV2));

TEST_P(Accepting, TheHeaderIsTakenOutAndItsSourceIsTheClient) {
  Peer client = plane_.client();
  client.send(header(GetParam()) + "hello");
  Peer server = backend_.accept();
  EXPECT_EQ(server.receive(5), "hello");
  EXPECT_EQ(plane_.list().front().client, kFrom);
  server.send("answer");
  EXPECT_EQ(client.receive(6), "answer");
}

TEST_P(Accepting, AHeaderMayComeByteByByte) {
  Peer client = plane_.client();
  for (const char byte : header(GetParam()) + "x") client.send({&byte, 1});
  EXPECT_EQ(backend_.accept().receive(1), "x");
  EXPECT_EQ(plane_.counts().proxy_refused, 0U);
}

TEST_P(Accepting, NobodyIsConnectedBeforeItsHeaderIsWhole) {
  const std::string whole = header(GetParam());
  Peer client = plane_.client();
  client.send(whole.substr(0, whole.size() - 1));
  ASSERT_TRUE(plane_.wait([&] { return plane_.counts().active == 1; }));
  EXPECT_EQ(plane_.list().front().state, "greeting");
  EXPECT_FALSE(backend_.has_client(Duration(0)));
  client.send(whole.substr(whole.size() - 1));
  Peer server = backend_.accept();
  server.send("server first");
  EXPECT_EQ(client.receive(12), "server first");
}

TEST_P(Accepting, WhatIsNoHeaderIsRefused) {
  const std::string whole = header(GetParam());
  std::uint64_t count = 0;
  for (const std::string& bytes : {std::string("GET / HTTP/1.1\r\n\r\n"), std::string("\x16\x03\x01"),
                                   "x" + whole, whole.substr(0, 3) + "\n" + whole}) {
    Peer client = plane_.client();
    EXPECT_TRUE(client.try_send(bytes));
    EXPECT_EQ(client.receive_all().bytes, "");
    EXPECT_TRUE(refused(++count)) << bytes;
  }
  EXPECT_FALSE(backend_.has_client(Duration(0)));
}

TEST_P(Accepting, AHeaderThatEndsHalfWayIsRefused) {
  Peer client = plane_.client();
  client.send(header(GetParam()).substr(0, 10));
  ASSERT_TRUE(plane_.wait([&] { return plane_.counts().active == 1; }));
  client.finish();
  EXPECT_EQ(client.receive_all().bytes, "");
  EXPECT_TRUE(refused(1));
}

TEST_P(Accepting, AClientThatSaysNothingAndGoesIsNoFault) {
  plane_.client().close();
  ASSERT_TRUE(plane_.wait([&] { return plane_.counts().accepted == 1 && plane_.counts().active == 0; }));
  EXPECT_EQ(plane_.counts().proxy_refused, 0U);
}

// It came in before the listeners were let go, and is served.
TEST_P(Accepting, AcceptingEndsWhenTheLastHeaderIsThere) {
  const std::string whole = header(GetParam());
  Peer client = plane_.client();
  client.send(whole.substr(0, 10));
  ASSERT_TRUE(plane_.wait([&] { return plane_.counts().active == 1; }));
  bool stopped = false;
  plane_.data->stop_accepting(Plane::kService, [&] { stopped = true; });
  plane_.list();
  EXPECT_FALSE(stopped);
  client.send(whole.substr(10) + "x");
  EXPECT_EQ(backend_.accept().receive(1), "x");
  EXPECT_TRUE(plane_.wait([&] { return stopped; }));
}

// Whoever will have to wait has a place among those who do before it is accepted.
TEST(AcceptingHeld, NoMoreAreTakenInThanMayWait) {
  config::Service accepting = service(true, config::ProxyProtocol::kOff);
  accepting.hold.max_connections = 3;
  Plane plane(with(accepting));
  EchoServer echo;
  std::vector<Peer> clients;
  for (int i = 0; i < 10; ++i) clients.push_back(plane.client());
  ASSERT_TRUE(plane.wait([&] { return plane.list().size() == 3; }));
  EXPECT_EQ(plane.counts().held, 0U) << "they are still greeting";
  for (Peer& client : clients) client.send(header(ProxyVersion::kV2) + "x");
  ASSERT_TRUE(plane.wait([&] { return plane.list().size() == 3 && plane.list().back().state == "held"; }));
  EXPECT_EQ(plane.counts().held, 3U);
  EXPECT_EQ(plane.counts().accepted, 3U);
  plane.route(echo.address());
  for (Peer& client : clients) EXPECT_EQ(client.receive(1), "x");
  EXPECT_EQ(plane.counts().held, 0U);
}

class Sending : public ::testing::TestWithParam<config::ProxyProtocol> {};
INSTANTIATE_TEST_SUITE_P(Each, Sending,
                         ::testing::Values(config::ProxyProtocol::kV1, config::ProxyProtocol::kV2));

TEST_P(Sending, TheInstanceIsToldWhoTheClientIs) {
  Plane plane(with(service(false, GetParam())));
  Listening backend;
  plane.route(backend.address());
  Peer client = plane.client();
  client.send("hello");
  Peer server = backend.accept();
  const ProxyHeader told = receive_header(server);
  EXPECT_EQ(told.source, *local_address(client.fd()));
  EXPECT_EQ(told.destination, plane.listener.address);
  EXPECT_EQ(server.receive(5), "hello");
}

TEST_P(Sending, NobodyIsPassedOnWhoseAddressIsGone) {
  config::Service some = service(false, GetParam());
  some.hold.max_connections = 0;  // it stays in the kernel's queue until there is a route
  Plane plane(with(some));
  Listening backend;
  {
    Peer client = plane.client();
    client.send("hello");
    client.reset();
  }
  plane.route(backend.address());
  Peer good = plane.client();
  good.send("hi");
  Peer server = backend.accept();
  EXPECT_EQ(receive_header(server).source, *local_address(good.fd()));
  EXPECT_EQ(server.receive(2), "hi");
  EXPECT_FALSE(backend.has_client(Duration(20)));
}

TEST_P(Sending, AlsoWhereTheServerSpeaksFirst) {
  Plane plane(with(service(false, GetParam())));
  Listening backend;
  plane.route(backend.address());
  Peer client = plane.client();
  Peer server = backend.accept();
  EXPECT_TRUE(receive_header(server).source.has_value());
  server.send("220 ready");
  EXPECT_EQ(client.receive(9), "220 ready");
}

TEST_P(Sending, WhatAnotherProxyToldIsPassedOn) {
  Plane plane(with(service(true, GetParam())));
  Listening backend;
  plane.route(backend.address());
  Peer client = plane.client();
  client.send(header(ProxyVersion::kV2, "[2001:db8::1]:1000", "[2001:db8::2]:443") + "x");
  Peer server = backend.accept();
  const ProxyHeader told = receive_header(server);
  EXPECT_EQ(told.source, *SocketAddress::parse("[2001:db8::1]:1000"));
  EXPECT_EQ(told.destination, *SocketAddress::parse("[2001:db8::2]:443"));
  EXPECT_EQ(server.receive(1), "x");
}

TEST_P(Sending, OfAUnixClientThereIsNothingToTell) {
  SocketPath path;
  Plane plane({.threads = 1, .service = service(false, GetParam()), .listen = path.address("front")});
  Listening backend;
  plane.route(backend.address());
  Peer client = plane.client();
  client.send("x");
  Peer server = backend.accept();
  EXPECT_TRUE(receive_header(server).local);
  EXPECT_EQ(server.receive(1), "x");
}

// The header goes with the first bytes, to whichever instance takes them; and once.
TEST_P(Sending, AClientThatIsHeldAndPassedOnIsIntroducedOnce) {
  Plane plane(with(service(false, GetParam())));
  Listening backend;
  std::vector<Peer> clients;
  for (int i = 0; i < 10; ++i) {
    clients.push_back(plane.client());
    clients.back().send("hello");
  }
  ASSERT_TRUE(plane.wait([&] { return plane.counts().held == 10; }));
  plane.route({make_endpoint(dead_address(), 1, 0), make_endpoint(backend.address(), 1, 1)});
  std::set<std::string> sources;
  for (int i = 0; i < 10; ++i) {
    Peer server = backend.accept();
    sources.insert(receive_header(server).source->to_string());
    EXPECT_EQ(server.receive(5), "hello");
    server.finish();
    EXPECT_TRUE(server.nothing_arrives(Duration(0)));
  }
  EXPECT_EQ(sources.size(), 10U);
}

// The header is relayd's own: an instance that has read no more of a client can be exchanged for another.
TEST_P(Sending, AnInstanceThatDiesWithNothingButTheHeaderIsReplaced) {
  Plane plane(with(service(false, GetParam())));
  Listening first;
  Listening second;
  plane.route(first.address());
  Peer client = plane.client();
  Peer dying = first.accept();
  const std::optional<SocketAddress> source = receive_header(dying).source;
  plane.route(second.address(), 2);
  plane.list();  // the route is there
  dying.reset();
  Peer server = second.accept();
  EXPECT_EQ(receive_header(server).source, source);
  client.send("hello");
  EXPECT_EQ(server.receive(5), "hello");
  EXPECT_EQ(plane.list().front().bytes_in, 5U);
}

TEST_P(Sending, LargeFirstWordsComeWholeBehindTheHeader) {
  Plane plane(with(service(true, GetParam()), 3));
  Listening backend;
  plane.route(backend.address());
  const std::string words = pattern(3'000'000, 9);
  Peer client = plane.client();
  std::jthread writer([&] {
    client.send(header(ProxyVersion::kV1) + words);
    client.finish();
  });
  Peer server = backend.accept();
  EXPECT_EQ(receive_header(server).source, *SocketAddress::parse(kFrom));
  EXPECT_TRUE(server.receive_all().bytes == words);
}

}  // namespace
}  // namespace relayd::net::test
