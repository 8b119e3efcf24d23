// Clients that wait: in what order, for how long, how many, and that none is lost by it.
#include <algorithm>

#include "tests/net/support.h"

namespace relayd::net::test {
namespace {

Plane::Options with(unsigned threads, config::Service service = {}) {
  return {.threads = threads, .service = std::move(service)};
}

bool held(Plane& plane, std::size_t count) {
  return plane.wait([&] { return plane.counts().held == count; });
}

TEST(Hold, ClientsAreReleasedInOrderOfArrival) {
  Plane plane(with(1));
  Listening backend;
  std::vector<Peer> clients;
  for (char name = 'a'; name < 'a' + 20; ++name) {
    clients.push_back(plane.client());
    clients.back().send(std::string(1, name));
    ASSERT_TRUE(held(plane, clients.size()));
  }
  EXPECT_EQ(plane.list().front().state, "held");
  plane.route(backend.address());
  std::string order;
  for (std::size_t i = 0; i < clients.size(); ++i) {
    Peer server = backend.accept();
    order += server.receive(1);
    server.send("!");
  }
  EXPECT_EQ(order, "abcdefghijklmnopqrst");
  for (Peer& client : clients) EXPECT_EQ(client.receive_all().bytes, "!");
  EXPECT_EQ(plane.counts().held, 0U);
  EXPECT_EQ(plane.counts().held_total, 20U);
}

TEST(Hold, EveryWorkerReleasesItsClients) {
  Plane plane(with(3));
  EchoServer echo;
  std::vector<Peer> clients;
  for (int i = 0; i < 300; ++i) {
    clients.push_back(plane.client());
    clients.back().send("hello");
  }
  ASSERT_TRUE(held(plane, 300));
  plane.route(echo.address());
  for (Peer& client : clients) EXPECT_EQ(client.receive(5), "hello");
}

// A route that comes and goes at once has served those who waited when it came.
TEST(Hold, ARouteGivenAndTakenAwayServesThoseWhoWaited) {
  Plane plane(with(1));
  EchoServer echo;
  std::vector<Peer> clients;
  for (int i = 0; i < 300; ++i) {
    clients.push_back(plane.client());
    clients.back().send("hello");
  }
  ASSERT_TRUE(held(plane, 300));
  plane.route(echo.address());
  plane.hold();
  for (Peer& client : clients) EXPECT_EQ(client.receive(5), "hello");
  EXPECT_EQ(plane.counts().held, 0U);
}

TEST(Hold, TimeoutCloses) {
  config::Service service;
  service.hold.timeout = Duration(100);
  Plane plane(with(1, service));
  Peer client = plane.client();
  EXPECT_EQ(client.receive_all().bytes, "");
  EXPECT_TRUE(plane.wait([&] { return plane.counts().active == 0; }));
  EXPECT_EQ(plane.counts().hold_timeouts, 1U);
}

TEST(Hold, BeyondItsBoundClientsWaitInTheKernelsQueue) {
  for (const unsigned threads : {1U, 3U}) {
    config::Service service;
    service.hold.max_connections = 5;
    Plane plane(with(threads, service));
    EchoServer echo;
    std::vector<Peer> clients;
    for (int i = 0; i < 40; ++i) {
      clients.push_back(plane.client());
      clients.back().send("hello");
    }
    ASSERT_TRUE(held(plane, 5));
    EXPECT_EQ(plane.counts().accepted, 5U);
    EXPECT_TRUE(clients.back().nothing_arrives(Duration(150)));
    EXPECT_EQ(plane.counts().accepted, 5U);
    plane.route(echo.address());
    for (Peer& client : clients) EXPECT_EQ(client.receive(5), "hello");
  }
}

TEST(Hold, ABoundOfNoneAcceptsNobodyUntilThereIsARoute) {
  config::Service service;
  service.hold.max_connections = 0;
  Plane plane(with(1, service));
  EchoServer echo;
  Peer client = plane.client();
  client.send("hello");
  EXPECT_TRUE(client.nothing_arrives(Duration(100)));
  EXPECT_EQ(plane.counts().accepted, 0U);
  plane.route(echo.address());
  EXPECT_EQ(client.receive(5), "hello");
}

TEST(Hold, AClientThatHasOnlyStoppedSendingGetsItsAnswer) {
  Plane plane(with(1));
  Listening backend;
  Peer client = plane.client();
  client.send("request");
  client.finish();
  ASSERT_TRUE(held(plane, 1));
  // Its FIN has been seen when another client, which came later, has.
  Peer later = plane.client();
  ASSERT_TRUE(held(plane, 2));
  plane.route(backend.address());
  Peer server = backend.accept();
  EXPECT_EQ(server.receive_all().bytes, "request");
  server.send("answer");
  server.close();
  EXPECT_EQ(client.receive_all().bytes, "answer");
}

TEST(Hold, AClientThatIsResetIsForgotten) {
  Plane plane(with(1));
  Peer client = plane.client();
  client.send("x");
  ASSERT_TRUE(held(plane, 1));
  client.reset();
  EXPECT_TRUE(plane.wait([&] { return plane.counts().active == 0; }));
  EXPECT_EQ(plane.counts().hold_timeouts, 0U);
}

TEST(Hold, AUnixClientThatClosedIsForgottenUnlessItHasWritten) {
  SocketPath path;
  Plane plane({.threads = 1, .service = {}, .listen = path.address("front")});
  Listening backend;
  Peer silent = plane.client();
  Peer writer = plane.client();
  writer.send("log line");
  ASSERT_TRUE(held(plane, 2));
  silent.close();
  writer.close();
  ASSERT_TRUE(held(plane, 1));
  plane.route(backend.address());
  EXPECT_EQ(backend.accept().receive_all().bytes, "log line");
}

TEST(Hold, CloseHeldGivesThemUp) {
  Plane plane(with(3));
  std::vector<Peer> clients;
  for (int i = 0; i < 50; ++i) clients.push_back(plane.client());
  ASSERT_TRUE(held(plane, 50));
  plane.data->close_held(Plane::kService);
  for (Peer& client : clients) EXPECT_EQ(client.receive_all().bytes, "");
  EXPECT_TRUE(plane.wait([&] { return plane.counts().active == 0; }));
}

// No instance can be connected: nobody is dropped, and everybody is served, with every byte and in order of
// arrival, once one listens again.
TEST(Hold, ClientsOutliveAnInstanceThatIsDown) {
  for (const bool over_unix : {false, true}) {
    SocketPath path;
    Plane plane(with(1));
    const SocketAddress address = over_unix ? path.address("back") : dead_address();
    plane.route(address);
    std::vector<Peer> clients;
    for (char name = 'a'; name < 'a' + 20; ++name) {
      clients.push_back(plane.client());
      clients.back().send(std::string(1, name));
      ASSERT_TRUE(plane.wait([&] { return plane.counts().accepted == clients.size(); }));
    }
    ASSERT_TRUE(plane.wait([&] { return plane.counts().connect_failures > 2; }));
    Listening backend(address);
    std::string order;
    for (std::size_t i = 0; i < clients.size(); ++i) {
      Peer server = backend.accept();
      order += server.receive(1);
      server.send("!");
    }
    EXPECT_EQ(order, "abcdefghijklmnopqrst");
    for (Peer& client : clients) EXPECT_EQ(client.receive_all().bytes, "!");
  }
}

// An instance that dies with clients in its queue, who have not carried a byte, loses none of them.
TEST(Hold, ClientsInTheQueueOfADyingInstanceGoToTheNext) {
  Plane plane(with(1));
  auto dying = std::make_unique<Listening>();
  plane.route(dying->address(), 1);
  std::vector<Peer> clients;
  for (int i = 0; i < 10; ++i) clients.push_back(plane.client());
  ASSERT_TRUE(plane.wait([&] {
    const auto all = plane.list();
    return std::count_if(all.begin(), all.end(), [](const auto& info) { return info.state == "relaying"; }) ==
           10;
  }));
  dying.reset();
  EchoServer echo;
  plane.route(echo.address(), 2);
  for (Peer& client : clients) {
    client.send("hello");
    EXPECT_EQ(client.receive(5), "hello");
  }
}

// Whoever stops, or drops the service, waits until those who came in are with an instance.
TEST(Hold, AcceptingEndsWhenThoseWhoAreLetGoSlowlyAreServed) {
  config::Service service;
  service.hold.release_rate = 50;
  Plane plane(with(1, service));
  EchoServer echo;
  std::vector<Peer> clients;
  for (int i = 0; i < 20; ++i) {
    clients.push_back(plane.client());
    clients.back().send("hello");
  }
  ASSERT_TRUE(held(plane, 20));
  plane.route(echo.address());
  bool stopped = false;
  plane.data->stop_accepting(Plane::kService, [&] { stopped = true; });
  ASSERT_TRUE(plane.wait([&] { return stopped; }));
  EXPECT_EQ(plane.counts().held, 0U);
  plane.data->close_held(Plane::kService);
  for (Peer& client : clients) {
    EXPECT_EQ(client.receive(5), "hello");
    client.send("again");
    EXPECT_EQ(client.receive(5), "again");
  }
}

TEST(Hold, AcceptingEndsAtOnceWhereNobodyServesThoseWhoWait) {
  Plane plane(with(1));
  Peer client = plane.client();
  ASSERT_TRUE(held(plane, 1));
  bool stopped = false;
  plane.data->stop_accepting(Plane::kService, [&] { stopped = true; });
  EXPECT_TRUE(plane.wait([&] { return stopped; }));
  EXPECT_EQ(plane.counts().held, 1U);
}

// What an instance has against one client is no reason to keep others from it.
TEST(Hold, AClientThatAnInstanceResetsHoldsUpNobody) {
  Plane plane(with(1));
  Listening backend;
  plane.route(backend.address());
  Peer unwanted = plane.client();
  for (int i = 0; i < 4; ++i) backend.accept().reset();  // the first time, and as often as it is rescued
  EXPECT_EQ(unwanted.receive_all().error, ECONNRESET);
  EXPECT_EQ(plane.counts().connect_failures, 0U);
  EXPECT_EQ(plane.counts().held_total, 0U);
  Peer client = plane.client();
  client.send("hello");
  EXPECT_EQ(backend.accept().receive(5), "hello");
}

}  // namespace
}  // namespace relayd::net::test
