// The data plane is replaced under its connections (an upgrade of relayd): what happens while nobody works is
// told to the next one. By as many threads, which go on with the epoll sets of those before, and by others.
#include "tests/net/support.h"

namespace relayd::net::test {
namespace {

struct Threads {
  unsigned before;
  unsigned after;
};

class Replaced : public ::testing::TestWithParam<Threads> {
 protected:
  static Plane::Options before(config::Service service = {}) {
    return {.threads = GetParam().before, .service = std::move(service)};
  }
  static void replace(
      Plane& plane, const std::function<void()>& meanwhile = [] {}) {
    plane.replace(GetParam().after, meanwhile);
  }
};
INSTANTIATE_TEST_SUITE_P(By, Replaced,
                         ::testing::Values(Threads{1, 1}, Threads{3, 3}, Threads{3, 1}, Threads{1, 2}),
                         [](const auto& tested) {
                           return std::to_string(tested.param.before) + "_to_" +
                                  std::to_string(tested.param.after);
                         });

void exchange(Peer& client) {
  client.send("hello");
  EXPECT_EQ(client.receive(5), "hello");
}

std::vector<Peer> clients_of(Plane& plane, int count) {
  std::vector<Peer> clients;
  for (int i = 0; i < count; ++i) {
    clients.push_back(plane.client());
    exchange(clients.back());
  }
  return clients;
}

TEST_P(Replaced, WhatIsSaidMeanwhileIsHeard) {
  Plane plane(before());
  EchoServer echo;
  plane.route(echo.address());
  std::vector<Peer> clients = clients_of(plane, 20);
  for (int round = 0; round < 3; ++round) {
    replace(plane, [&] {
      for (Peer& client : clients) client.send("meanwhile");
    });
    for (Peer& client : clients) {
      EXPECT_EQ(client.receive(9), "meanwhile");
      exchange(client);
    }
  }
  EXPECT_EQ(plane.counts().accepted, 20U);
  EXPECT_EQ(echo.served(), 20U);
}

TEST_P(Replaced, WhoLeavesMeanwhileIsGone) {
  Plane plane(before());
  EchoServer echo;
  plane.route(echo.address());
  std::vector<Peer> clients = clients_of(plane, 12);
  replace(plane, [&] {
    for (std::size_t i = 0; i < clients.size(); i += 2) i % 4 == 0 ? clients[i].reset() : clients[i].finish();
  });
  for (std::size_t i = 2; i < clients.size(); i += 4) EXPECT_EQ(clients[i].receive_all().bytes, "");
  for (std::size_t i = 1; i < clients.size(); i += 2) exchange(clients[i]);
  EXPECT_TRUE(plane.wait([&] { return plane.counts().active == 6; }));
}

TEST_P(Replaced, ABackendThatEndsMeanwhileEndsItsClients) {
  Plane plane(before());
  Listening backend;
  plane.route(backend.address());
  Peer ended = plane.client();
  Peer one = backend.accept();
  Peer cut = plane.client();
  Peer other = backend.accept();
  for (Peer* server : {&one, &other}) server->send("hello");  // who has had nothing goes to another instance
  for (Peer* client : {&ended, &cut}) EXPECT_EQ(client->receive(5), "hello");
  replace(plane, [&] {
    one.send("and more");
    one.close();
    other.reset();
  });
  EXPECT_EQ(ended.receive_all().bytes, "and more");
  EXPECT_EQ(cut.receive_all().error, ECONNRESET);
}

TEST_P(Replaced, WhoComesMeanwhileIsServed) {
  Plane plane(before());
  EchoServer echo;
  plane.route(echo.address());
  std::vector<Peer> clients = clients_of(plane, 3);
  replace(plane, [&] {
    for (int i = 0; i < 10; ++i) clients.push_back(plane.client());
  });
  for (Peer& client : clients) exchange(client);
  EXPECT_EQ(plane.counts().accepted, 13U);
}

TEST_P(Replaced, WhoeverWaitsForRoomStillDoes) {
  config::Service service;
  service.limits.max_connections = 2;
  Plane plane(before(service));
  EchoServer echo;
  plane.route(echo.address());
  std::vector<Peer> clients = clients_of(plane, 2);
  Peer third = plane.client();
  third.send("hello");
  EXPECT_TRUE(third.nothing_arrives(Duration(100)));
  replace(plane);
  EXPECT_TRUE(third.nothing_arrives(Duration(100)));
  clients.pop_back();
  EXPECT_EQ(third.receive(5), "hello");
}

TEST_P(Replaced, AConnectThatIsUnderWayHasItsTimeout) {
  config::Service service;
  service.limits.connect_timeout = Duration(500);
  Plane plane(before(service));
  Listening stuck(SocketAddress::loopback(0), 0);
  Peer fills = Peer::connect(stuck.address());
  // The queue of a backlog of 0 holds one; a second connect hangs.
  EchoServer echo;
  const Endpoint silent = make_endpoint(stuck.address(), 1, 0);
  plane.route({silent});
  Peer client = plane.client();
  client.send("hello");
  ASSERT_TRUE(plane.wait([&] { return plane.list_of(1).connections.size() == 1; }));
  ASSERT_EQ(silent.load->connect_failures, 0U) << "it is under way";
  replace(plane);
  ASSERT_TRUE(plane.wait([&] { return silent.load->connect_failures > 0; }));
  plane.route({silent, make_endpoint(echo.address(), 1, 1)});
  EXPECT_EQ(client.receive(5), "hello");
}

TEST_P(Replaced, AnInstanceThatHasFailedIsStillPassedOver) {
  Plane plane(before());
  EchoServer echo;
  const Endpoint dead = make_endpoint(dead_address(), 1, 1);
  plane.route({make_endpoint(echo.address(), 1, 0), dead});
  std::vector<Peer> clients;
  while (dead.load->connect_failures < GetParam().before && clients.size() < 500) {  // each worker learns it
    clients.push_back(plane.client());
    exchange(clients.back());
  }
  ASSERT_EQ(dead.load->connect_failures, GetParam().before);
  clients.clear();
  replace(plane);
  for (int i = 0; i < 30; ++i) {
    clients.push_back(plane.client());
    exchange(clients.back());
  }
  EXPECT_EQ(dead.load->connect_failures, GetParam().before);
}

TEST_P(Replaced, OneThatIsNotReplacedGoesOn) {
  Plane plane(before());
  EchoServer echo;
  plane.route(echo.address());
  std::vector<Peer> clients = clients_of(plane, 5);
  const auto frozen = plane.data->freeze(kPatience);
  ASSERT_TRUE(frozen) << frozen.error().message;
  EXPECT_EQ(fault_of(plane.data->frozen()), "");
  for (int i = 0; i < 5; ++i) clients.push_back(plane.client());
  for (Peer& client : clients) client.send("hello");
  EXPECT_TRUE(clients.front().nothing_arrives(Duration(50)));
  plane.data->thaw();
  for (Peer& client : clients) EXPECT_EQ(client.receive(5), "hello");
  EXPECT_EQ(plane.counts().accepted, 10U);
}

TEST_P(Replaced, NoDescriptorIsLeft) {
  const auto live = [] {
    Plane plane(before());
    EchoServer echo;
    plane.route(echo.address());
    std::vector<Peer> clients = clients_of(plane, 10);
    replace(plane);
    const std::size_t then = open_descriptors();
    for (int i = 0; i < 4; ++i) replace(plane);
    for (Peer& client : clients) exchange(client);
    EXPECT_EQ(open_descriptors(), then);
  };
  live();  // libuv opens a few once per process
  const std::size_t before = open_descriptors();
  live();
  EXPECT_EQ(open_descriptors(), before);
}

}  // namespace
}  // namespace relayd::net::test
