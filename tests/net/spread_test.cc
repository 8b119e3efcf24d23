// Work that is spread: over threads, over instances that come back, over time.
#include <algorithm>

#include "tests/net/support.h"

namespace relayd::net::test {
namespace {

bool held(Plane& plane, std::size_t count) {
  return plane.wait([&] { return plane.counts().held == count; });
}

// A client that has a backend.
Peer served(Plane& plane) {
  Peer client = plane.client();
  client.send("x");
  EXPECT_EQ(client.receive(1), "x");
  return client;
}

// Connection::id begins with the worker's number.
std::vector<std::size_t> by_worker(Plane& plane, unsigned workers) {
  std::vector<std::size_t> counts(workers);
  for (const ConnectionInfo& info : plane.list()) ++counts.at(info.id >> 48);
  return counts;
}

// Whoever wakes first could take them all; the connections stay, and with them the work.
TEST(Workers, ShareFewKeptConnectionsEvenly) {
  for (const bool waited : {false, true}) {
    Plane plane({.threads = 4, .service = {}});
    EchoServer echo;
    if (!waited) plane.route(echo.address());
    std::vector<Peer> clients;
    for (int i = 0; i < 40; ++i) clients.push_back(waited ? plane.client() : served(plane));
    if (waited) {
      ASSERT_TRUE(held(plane, 40));
      plane.route(echo.address());
    }
    for (Peer& client : clients) {
      client.send("still");
      EXPECT_EQ(client.receive(5), "still");
    }
    for (const std::size_t count : by_worker(plane, 4)) {
      EXPECT_GE(count, 4U);
      EXPECT_LE(count, 14U);
    }
  }
}

TEST(Workers, HandOverLosesNobodyWhileRoutesChange) {
  Plane plane({.threads = 4, .service = {}});
  EchoServer first;
  EchoServer second;
  std::vector<std::jthread> threads;
  std::atomic<unsigned> answered{0};
  for (unsigned t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      std::vector<Peer> kept;
      for (int i = 0; i < 100; ++i) {
        kept.push_back(served(plane));
        if (kept.size() == 10) kept.clear();
        ++answered;
      }
    });
  }
  std::uint32_t generation = 0;
  while (answered < 400 && !::testing::Test::HasFailure()) {
    ++generation;
    plane.route(generation % 2 == 0 ? first.address() : second.address(), generation);
    plane.list();
    if (generation % 5 == 0) plane.hold();
  }
  plane.route(first.address(), generation + 1);
  threads.clear();
  EXPECT_EQ(answered, 400U);
  EXPECT_TRUE(plane.wait([&] { return plane.counts().active == 0; }));
}

// An instance that refused is found to be back without a client's risk, and gets clients again.
TEST(Probes, AnInstanceThatComesBackIsFound) {
  Plane plane({.threads = 1, .service = {}});
  EchoServer other;
  auto away = std::make_unique<Listening>();
  const SocketAddress address = away->address();
  away.reset();
  const Endpoint first = make_endpoint(address, 1, 0);
  const Endpoint second = make_endpoint(other.address(), 1, 1);
  plane.route({first, second}, config::Balance::kRoundRobin);
  for (int i = 0; i < 20; ++i) served(plane);
  EXPECT_EQ(plane.counts().connect_failures, 1U) << "it is asked once, and then probed";
  EchoServer back(address);
  EXPECT_TRUE(plane.wait([&] {
    served(plane);
    return first.load->connections > 0;
  }));
  EXPECT_EQ(plane.counts().connect_failures, 1U);
}

TEST(Probes, NoneOutlivesItsInstance) {
  Plane plane({.threads = 1, .service = {}});
  EchoServer other;
  for (std::uint32_t generation = 1; generation < 30; ++generation) {
    plane.route({make_endpoint(dead_address(), generation, 0), make_endpoint(other.address(), generation, 1)},
                config::Balance::kRoundRobin);
    served(plane);
    served(plane);
  }
  plane.route(other.address(), 99);
  served(plane);
}

std::int64_t milliseconds_since(TimePoint then) { return (monotonic_now() - then).count(); }

// Only the least time is asserted, which a slow machine cannot shorten.
TEST(Pace, HeldClientsAreReleasedInOrderAtTheRateAskedFor) {
  config::Service service;
  service.protocol = config::Protocol::kTcp;  // some of the bytes below might begin a request
  service.hold.release_rate = 100;
  Plane plane({.threads = 1, .service = service});
  Listening backend;
  std::vector<Peer> clients;
  for (char name = 0; name < 50; ++name) {
    clients.push_back(plane.client());
    clients.back().send({&name, 1});
    ASSERT_TRUE(held(plane, clients.size()));
  }
  plane.route(backend.address());
  TimePoint began{};
  for (char name = 0; name < 50; ++name) {
    Peer server = backend.accept();
    if (name == 0) began = monotonic_now();
    EXPECT_EQ(server.receive(1), std::string(1, name));
  }
  // 50 at 100 a second, less what one tick may release at once.
  EXPECT_GE(milliseconds_since(began), 350);
  EXPECT_EQ(plane.counts().held, 0U);
}

TEST(Pace, NewClientsDoNotQueueBehindThoseWhoAreReleasedSlowly) {
  config::Service service;
  service.hold.release_rate = 1;
  Plane plane({.threads = 1, .service = service});
  EchoServer echo;
  std::vector<Peer> clients;
  for (int i = 0; i < 20; ++i) clients.push_back(plane.client());
  ASSERT_TRUE(held(plane, 20));
  plane.route(echo.address());
  served(plane);
  EXPECT_GT(plane.counts().held, 0U);
}

// The pace must not cost anybody the connection.
TEST(Pace, WhoHasWaitedTooLongIsReleasedRatherThanSentAway) {
  config::Service service;
  service.hold.release_rate = 1;
  service.hold.timeout = Duration(300);
  Plane plane({.threads = 1, .service = service});
  EchoServer echo;
  std::vector<Peer> clients;
  for (int i = 0; i < 20; ++i) {
    clients.push_back(plane.client());
    clients.back().send("hello");
  }
  ASSERT_TRUE(held(plane, 20));
  plane.route(echo.address());
  for (Peer& client : clients) EXPECT_EQ(client.receive(5), "hello");
  EXPECT_EQ(plane.counts().hold_timeouts, 0U);
}

TEST(Spread, ClosesComeOneByOneUntilNoneIsLeft) {
  Plane plane({.threads = 1, .service = {}});
  EchoServer old;
  EchoServer next;
  plane.route(old.address(), 1);
  std::vector<Peer> clients;
  for (int i = 0; i < 40; ++i) clients.push_back(served(plane));
  plane.route(next.address(), 2);
  Peer fresh = served(plane);
  plane.data->drain(Plane::kService, 1, -1, 5);
  const TimePoint began = monotonic_now();
  plane.data->spread_closes(Plane::kService, 1, ConnectionKind::kAll, Duration(1000));
  ASSERT_TRUE(plane.wait([&] { return plane.counts().cut >= 20; }));
  EXPECT_GE(milliseconds_since(began), 350) << "half of them in half of the time";
  EXPECT_TRUE(plane.wait([&] { return plane.drained.size() == 1; }));
  for (Peer& client : clients) EXPECT_EQ(client.receive_all().bytes, "");
  EXPECT_EQ(plane.counts().cut, 40U);
  fresh.send("stays");
  EXPECT_EQ(fresh.receive(5), "stays");
}

TEST(Spread, IsTakenBackWithTheDrain) {
  Plane plane({.threads = 1, .service = {}});
  EchoServer echo;
  const Endpoint endpoint = make_endpoint(echo.address(), 1, 0);
  plane.route({endpoint});
  std::vector<Peer> clients;
  for (int i = 0; i < 40; ++i) clients.push_back(served(plane));
  plane.hold();
  plane.data->spread_closes(Plane::kService, 1, ConnectionKind::kAll, Duration(20'000));
  ASSERT_TRUE(plane.wait([&] { return plane.counts().cut >= 1; }));
  plane.route({endpoint});
  plane.list();
  const std::uint64_t cut = plane.counts().cut;
  EXPECT_LT(cut, 40U);
  served(plane);
  EXPECT_EQ(plane.counts().cut, cut);
}

}  // namespace
}  // namespace relayd::net::test
