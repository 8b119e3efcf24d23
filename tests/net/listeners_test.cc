// Listeners that are taken away, one by one or all at a stop: what becomes of those in the kernel's queue.
#include "tests/net/support.h"

namespace relayd::net::test {
namespace {

class ListenersTest : public ::testing::TestWithParam<unsigned> {
 protected:
  ListenersTest() : plane_({.threads = GetParam(), .service = {}}) {}
  // A client that has a backend.
  Peer served() {
    Peer client = plane_.client();
    client.send("x");
    EXPECT_EQ(client.receive(1), "x");
    return client;
  }
  // Everything asked of the workers so far has been done by them.
  void settle() { plane_.list(); }

  Plane plane_;
  EchoServer echo_;
};
INSTANTIATE_TEST_SUITE_P(Threads, ListenersTest, ::testing::Values(1, 3));

TEST_P(ListenersTest, ARemovedListenerIsEmptiedFirst) {
  config::Service service;
  service.hold.max_connections = 0;  // nobody is accepted yet: all wait in the queue
  plane_.data->update_service(Plane::kService, service, {&plane_.listener}, [] {});
  std::vector<Peer> clients;
  for (int i = 0; i < 40; ++i) {
    clients.push_back(plane_.client());
    clients.back().send("hello");
  }
  EXPECT_EQ(plane_.counts().accepted, 0U);
  Listener other = make_listener(SocketAddress::loopback(0));
  plane_.route(echo_.address());
  bool done = false;
  plane_.data->update_service(Plane::kService, config::Service{}, {&other}, [&] { done = true; });
  ASSERT_TRUE(plane_.wait([&] { return done; }));
  plane_.listener.socket.reset();
  for (Peer& client : clients) EXPECT_EQ(client.receive(5), "hello");
  Peer through_other = Peer::connect(other.address);
  through_other.send("hello");
  EXPECT_EQ(through_other.receive(5), "hello");
  plane_.data.reset();
}

TEST_P(ListenersTest, StopAcceptingServesTheQueueAndKeepsRelaying) {
  plane_.route(echo_.address());
  Peer live = served();
  std::vector<Peer> clients;
  for (int i = 0; i < 40; ++i) clients.push_back(plane_.client());
  bool done = false;
  plane_.data->stop_accepting(Plane::kService, [&] { done = true; });
  clients.push_back(std::move(live));
  for (Peer& client : clients) client.send("hello");
  ASSERT_TRUE(plane_.wait([&] { return done; }));
  plane_.listener.socket.reset();
  for (Peer& client : clients) {
    EXPECT_EQ(client.receive(5), "hello");
    client.send("again");
    EXPECT_EQ(client.receive(5), "again");
  }
}

// Asked to stop while it is full: those who wait in the kernel's queue have all of graceful_timeout to find
// room. Another service, which gives up at once, shows that this is a setting and not a constant.
TEST(Listeners, StoppingWaitsForThoseWhoFindNoRoomForGracefulTimeout) {
  config::Service full;
  full.limits.max_connections = 1;
  Plane plane({.threads = 1, .service = full});
  constexpr ServiceId kHasty = 8;
  full.rollover.graceful_timeout = Duration(50);
  Listener hasty_listener = make_listener(SocketAddress::loopback(0));
  plane.data->add_service(kHasty, full, {&hasty_listener});
  EchoServer echo;
  plane.route(echo.address());
  plane.data->set_route(kHasty, std::make_shared<const Route>(Route{{}, {make_endpoint(echo.address())}}));
  Peer in_patient = plane.client();
  Peer in_hasty = Peer::connect(hasty_listener.address);
  for (Peer* client : {&in_patient, &in_hasty}) {
    client->send("x");
    EXPECT_EQ(client->receive(1), "x");
  }
  Peer waits = plane.client();
  waits.send("hello");
  Peer waits_in_vain = Peer::connect(hasty_listener.address);
  bool patient_done = false;
  bool hasty_done = false;
  plane.data->stop_accepting(Plane::kService, [&] { patient_done = true; });
  plane.data->stop_accepting(kHasty, [&] { hasty_done = true; });
  ASSERT_TRUE(plane.wait([&] { return hasty_done; }));
  EXPECT_FALSE(patient_done);
  in_patient.close();
  ASSERT_TRUE(plane.wait([&] { return patient_done; }));
  plane.listener.socket.reset();
  EXPECT_EQ(waits.receive(5), "hello");
  plane.data.reset();
}

// Full, but with nobody in the queue: nothing to wait for.
TEST_P(ListenersTest, AFullServiceWithAnEmptyQueueStopsAtOnce) {
  for (const bool over_unix : {false, true}) {
    SocketPath path;
    config::Service service;
    service.limits.max_connections = 1;
    service.rollover.graceful_timeout = std::chrono::hours(1);
    Plane plane({.threads = GetParam(),
                 .service = service,
                 .listen = over_unix ? path.address("front") : SocketAddress::loopback(0)});
    plane.route(echo_.address());
    Peer client = plane.client();
    client.send("x");
    EXPECT_EQ(client.receive(1), "x");
    bool done = false;
    plane.data->stop_accepting(Plane::kService, [&] { done = true; });
    EXPECT_TRUE(plane.wait([&] { return done; }));
    client.send("on");
    EXPECT_EQ(client.receive(2), "on");
  }
}

// A fast stop does not wait for graceful_timeout: whoever gives up on the held ones gives up on the queue.
TEST_P(ListenersTest, ClosingTheHeldLetsGoOfAQueueThatFindsNoRoom) {
  config::Service service;
  service.hold.max_connections = 2;
  service.rollover.graceful_timeout = std::chrono::hours(1);
  plane_.data->update_service(Plane::kService, service, {&plane_.listener}, [] {});
  settle();
  std::vector<Peer> clients;
  for (int i = 0; i < 10; ++i) clients.push_back(plane_.client());
  ASSERT_TRUE(plane_.wait([&] { return plane_.counts().held == 2; }));
  bool done = false;
  plane_.data->stop_accepting(Plane::kService, [&] { done = true; });
  settle();
  EXPECT_FALSE(done);
  plane_.data->close_held(Plane::kService);
  ASSERT_TRUE(plane_.wait([&] { return done; }));
  plane_.listener.socket.reset();
  for (Peer& client : clients) EXPECT_EQ(client.receive_all().bytes, "");
}

}  // namespace
}  // namespace relayd::net::test
