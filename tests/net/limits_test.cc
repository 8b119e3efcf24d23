// Bounds and timeouts: whoever is beyond them waits, and nobody is turned away.
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <thread>

#include "tests/net/http_support.h"

namespace relayd::net::test {
namespace {

class LimitsTest : public ::testing::TestWithParam<unsigned> {};
INSTANTIATE_TEST_SUITE_P(Threads, LimitsTest, ::testing::Values(1, 3));

void exchange(Peer& client) {
  client.send("hello");
  EXPECT_EQ(client.receive(5), "hello");
}

// So many clients at once, each of whom does one exchange and leaves.
void serve_all(Plane& plane, int count) {
  std::vector<Peer> clients;
  for (int i = 0; i < count; ++i) clients.push_back(plane.client());
  std::vector<std::jthread> threads;
  for (Peer& client : clients) {
    threads.emplace_back([&client] {
      exchange(client);
      client.close();
    });
  }
}

TEST_P(LimitsTest, BeyondMaxConnectionsClientsWaitInTheKernelsQueue) {
  config::Service service;
  service.limits.max_connections = 3;
  Plane plane({.threads = GetParam(), .service = service});
  EchoServer echo;
  plane.route(echo.address());
  std::vector<Peer> first;
  for (int i = 0; i < 3; ++i) {
    first.push_back(plane.client());
    exchange(first.back());
  }
  Peer fourth = plane.client();
  fourth.send("hello");
  EXPECT_TRUE(fourth.nothing_arrives(Duration(150)));
  EXPECT_EQ(plane.counts().accepted, 3U);
  first.pop_back();
  EXPECT_EQ(fourth.receive(5), "hello");
  fourth.close();
  first.clear();
  serve_all(plane, 60);
}

// It has its answer and its end, and takes neither to heart.
TEST_P(LimitsTest, AClientThatDoesNotCloseGivesItsPlaceToAnother) {
  Plane::Options options = http(GetParam());
  options.service.limits.max_connections = 1;
  Plane plane(std::move(options));
  Listening backend;
  plane.route(backend.address());
  Peer first = plane.client();
  Peer second = plane.client();
  for (Peer* client : {&first, &second}) {
    client->send(kGet);
    Peer server = backend.accept();
    expect(server, kGet);
    server.send(kLastOk);
    EXPECT_EQ(client->receive_all().bytes, kLastOk);
  }
  EXPECT_TRUE(first.is_open());
}

// A browser connects before it knows what to ask for.
TEST_P(LimitsTest, AClientThatSaysNothingGivesItsPlaceToAnother) {
  Plane::Options options = http(GetParam());
  options.service.limits.max_connections = 1;
  Plane plane(std::move(options));
  Listening backend;
  plane.route(backend.address());
  Peer mute = plane.client();
  ASSERT_TRUE(state_is(plane, "idle"));
  Peer client = plane.client();
  first_exchange(client, backend);
  EXPECT_EQ(mute.receive_all().error, 0);
}

// No more of it comes, but that is not its end.
TEST_P(LimitsTest, AResponseThatOnlyTheEndEndsIsNotCutCleanlyByIdleTimeout) {
  Plane::Options options = http(GetParam());
  options.service.limits.idle_timeout = Duration(100);
  Plane plane(std::move(options));
  Listening backend;
  plane.route(backend.address());
  Peer client = plane.client();
  client.send(kGet);
  Peer server = backend.accept();
  expect(server, kGet);
  server.send("HTTP/1.1 200 OK\r\n\r\nhalf");
  EXPECT_EQ(client.receive_all().error, ECONNRESET);
}

// Its upload goes on while its response is on the way: a close now would reset it.
TEST_P(LimitsTest, AStopWaitsForTheLastBytesOfAResponse) {
  Plane plane(http(GetParam()));
  Listening backend;
  plane.route(backend.address());
  Peer client = plane.client(4096);
  client.send("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n");
  const std::string body = pattern(100'000, 1);
  const std::string head = "HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 100000\r\n\r\n";
  Peer server = backend.accept();
  std::thread writer([&] { server.send(head + body); });
  ASSERT_TRUE(plane.wait([&] { return state_is(plane, "lingering"); }));
  writer.join();
  bool stopped = false;
  plane.data->stop_accepting(Plane::kService, [] {});
  plane.data->finish_ends(Plane::kService, [&] { stopped = true; });
  plane.list();
  EXPECT_FALSE(stopped);
  client.send("and more");
  EXPECT_EQ(client.receive_all().bytes, head + body);
  EXPECT_TRUE(plane.wait([&] { return stopped; }));
}

TEST_P(LimitsTest, AFewDescriptorsServeMany) {
  Plane plane({.threads = GetParam(), .service = {}, .max_descriptors = 10});
  EchoServer echo;
  plane.route(echo.address());
  serve_all(plane, 200);
  EXPECT_EQ(plane.counts().accepted, 200U);
  EXPECT_EQ(plane.counts().connect_failures, 0U);
}

// Descriptors are shared out anew when a service or an instance comes: whoever waits for one hears of it.
TEST_P(LimitsTest, MoreDescriptorsLetInThoseWhoWait) {
  Plane plane({.threads = GetParam(), .service = {}, .max_descriptors = 2});
  EchoServer echo;
  plane.route(echo.address());
  Peer first = plane.client();
  exchange(first);
  Peer second = plane.client();
  second.send("hello");
  EXPECT_TRUE(second.nothing_arrives(Duration(100)));
  plane.data->set_max_descriptors(4);
  EXPECT_EQ(second.receive(5), "hello");
  plane.data->set_max_descriptors(2);
  exchange(first);
  exchange(second);
}

// The process itself runs out (EMFILE): clients wait, connects wait, nobody is dropped.
TEST_P(LimitsTest, WithoutDescriptorsEverybodyWaits) {
  EchoServer echo;
  Plane plane({.threads = GetParam(), .service = {}});
  plane.route(echo.address());
  Peer before = plane.client();
  exchange(before);
  std::vector<Peer> clients;
  for (int i = 0; i < 8; ++i) clients.push_back(plane.client());
  for (Peer& client : clients) exchange(client);
  // Sockets that connect later are made now; then nothing is left to open.
  std::vector<Descriptor> sockets;
  for (int i = 0; i < 8; ++i) sockets.emplace_back(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  rlimit old{};
  ::getrlimit(RLIMIT_NOFILE, &old);
  // The lowest free number: below it everything is taken.
  const auto lowest = static_cast<rlim_t>(Descriptor(::dup(before.fd())).get());
  const rlimit none{.rlim_cur = lowest, .rlim_max = old.rlim_max};
  ::setrlimit(RLIMIT_NOFILE, &none);
  std::vector<Peer> late;
  for (Descriptor& socket : sockets) {
    EXPECT_EQ(::connect(socket.get(), plane.listener.address.get(), plane.listener.address.length()), 0);
    late.emplace_back(std::move(socket));
    late.back().send("hello");
  }
  exchange(before);
  EXPECT_TRUE(late.back().nothing_arrives(Duration(150)));
  ::setrlimit(RLIMIT_NOFILE, &old);
  for (Peer& client : late) EXPECT_EQ(client.receive(5), "hello");
}

// A worker that cannot have a listener in its epoll set (fs.epoll.max_user_watches, memory) tries until it
// can, and serves the other listeners meanwhile. What cannot be watched here is a file under the listener's
// number.
TEST_P(LimitsTest, AListenerThatCannotBeWatchedIsTriedAgain) {
  Plane plane({.threads = GetParam(), .service = {}});
  EchoServer echo;
  plane.route(echo.address());
  Listener late = make_listener(SocketAddress::loopback(0));
  Descriptor socket = std::move(late.socket);
  late.socket.reset(::memfd_create("unwatchable", MFD_CLOEXEC));
  plane.data->update_service(Plane::kService, config::Service{}, {&plane.listener, &late}, [] {});
  plane.list();  // every worker has tried
  Peer meanwhile = plane.client();
  exchange(meanwhile);
  Peer client = Peer::connect(late.address);
  client.send("hello");
  EXPECT_TRUE(client.nothing_arrives(Duration(100)));
  ASSERT_TRUE(set_nonblocking(socket.get(), true));
  // Not through libc: to a thread sanitizer, exchanging a descriptor in use is a race. Here it is the point.
  ASSERT_EQ(::syscall(SYS_dup3, socket.get(), late.socket.get(), O_CLOEXEC), late.socket.get());
  EXPECT_EQ(client.receive(5), "hello");
  plane.data.reset();
}

TEST_P(LimitsTest, IdleTimeoutClosesBothSidesAndSparesTheBusy) {
  config::Service service;
  service.limits.idle_timeout = Duration(400);
  Plane plane({.threads = GetParam(), .service = service});
  EchoServer echo;
  plane.route(echo.address());
  Peer busy = plane.client();
  Peer idle = plane.client();
  exchange(idle);
  std::atomic<bool> stop{false};
  std::jthread worker([&] {
    while (!stop) {
      exchange(busy);
      EXPECT_TRUE(busy.nothing_arrives(Duration(20)));
    }
  });
  EXPECT_EQ(idle.receive_all().bytes, "");
  EXPECT_TRUE(plane.wait([&] { return plane.counts().active == 1; }));
  stop = true;
}

// The timeout is set while connections are open.
TEST_P(LimitsTest, AnIdleTimeoutReachesConnectionsThatAreOpen) {
  Plane plane({.threads = GetParam(), .service = {}});
  EchoServer echo;
  plane.route(echo.address());
  Peer client = plane.client();
  exchange(client);
  config::Service service;
  service.limits.idle_timeout = Duration(100);
  plane.data->update_service(Plane::kService, service, {&plane.listener}, [] {});
  EXPECT_EQ(client.receive_all().bytes, "");
}

// Connections that were listed to be looked at minutes later are looked at by the new timeout, and do not
// stand in the way of those that come after it.
TEST_P(LimitsTest, AShorterIdleTimeoutReachesConnectionsOfALongerOne) {
  config::Service service;
  service.limits.idle_timeout = std::chrono::hours(1);
  Plane plane({.threads = GetParam(), .service = service});
  EchoServer echo;
  plane.route(echo.address());
  Peer before = plane.client();
  exchange(before);
  service.limits.idle_timeout = Duration(100);
  plane.data->update_service(Plane::kService, service, {&plane.listener}, [] {});
  plane.list();  // the workers know
  Peer after = plane.client();
  EXPECT_EQ(before.receive_all().error, 0);
  EXPECT_EQ(after.receive_all().error, 0);
}

// An instance whose queue is full does not answer; the client goes to another after connect_timeout.
TEST_P(LimitsTest, ConnectTimeoutTriesAnother) {
  config::Service service;
  service.limits.connect_timeout = Duration(200);
  Plane plane({.threads = GetParam(), .service = service});
  Listening stuck(SocketAddress::loopback(0), 0);
  Peer fills = Peer::connect(stuck.address());
  // The queue of a backlog of 0 holds one; a second connect hangs.
  EchoServer echo;
  const Endpoint silent = make_endpoint(stuck.address(), 1, 0);
  plane.route({silent});
  Peer client = plane.client();
  client.send("hello");
  ASSERT_TRUE(plane.wait([&] { return silent.load->connect_failures > 0; }));
  plane.route({silent, make_endpoint(echo.address(), 1, 1)});
  EXPECT_EQ(client.receive(5), "hello");
}

TEST_P(LimitsTest, AFullQueueOfAUnixInstanceLosesNobody) {
  SocketPath path;
  Plane plane({.threads = GetParam(), .service = {}});
  Listening backend(path.address("back"), 1);
  plane.route(backend.address());
  std::vector<Peer> clients;
  for (int i = 0; i < 10; ++i) {
    clients.push_back(plane.client());
    clients.back().send("hello");
  }
  ASSERT_TRUE(plane.wait([&] { return plane.counts().held > 0; }));
  EXPECT_EQ(plane.counts().connect_failures, 0U) << "it only had no room";
  for (int i = 0; i < 10; ++i) {
    Peer server = backend.accept();
    server.send(server.receive(5));
  }
  for (Peer& client : clients) EXPECT_EQ(client.receive(5), "hello");
}

TEST_P(LimitsTest, NoDescriptorIsLeft) {
  const auto live = [] {
    Plane plane({.threads = GetParam(), .service = {}});
    EchoServer echo;
    plane.route(echo.address());
    std::vector<Peer> clients;
    for (int i = 0; i < 20; ++i) {
      clients.push_back(plane.client());
      exchange(clients.back());
    }
    plane.hold();
    plane.list();
    clients.push_back(plane.client());
    EXPECT_TRUE(plane.wait([&] { return plane.counts().held == 1; }));
    clients.erase(clients.begin(), clients.begin() + 10);
  };
  live();  // libuv opens a few once per process
  const std::size_t before = open_descriptors();
  live();
  EXPECT_EQ(open_descriptors(), before);
}

}  // namespace
}  // namespace relayd::net::test
