// Where clients go: the choice of an instance, the switch, drains, cuts, and lists.
#include <sys/resource.h>

#include <algorithm>
#include <fstream>
#include <map>
#include <set>
#include <sstream>

#include "proxy/base/log.h"
#include "tests/base/scratch_directory.h"
#include "tests/net/support.h"

namespace relayd::net::test {
namespace {

Plane::Options with(unsigned threads, config::Service service = {}) {
  return {.threads = threads, .service = std::move(service)};
}

class RouteTest : public ::testing::TestWithParam<unsigned> {
 protected:
  RouteTest() : plane_(with(GetParam())) {}
  // A client that has a backend.
  Peer served() {
    Peer client = plane_.client();
    client.send("x");
    EXPECT_EQ(client.receive(1), "x");
    return client;
  }
  bool was_drained(std::uint64_t token) {
    return std::find(plane_.drained.begin(), plane_.drained.end(), token) != plane_.drained.end();
  }
  // Everything asked of the workers so far has been done by them.
  void settle() { plane_.list(); }

  Plane plane_;
  EchoServer echo_;
};
INSTANTIATE_TEST_SUITE_P(Threads, RouteTest, ::testing::Values(1, 3));

TEST_P(RouteTest, DrainReportsWhenTheLastConnectionEnds) {
  const auto load = plane_.route(echo_.address(), 1);
  Peer first = served();
  Peer second = served();
  EXPECT_EQ(load->active, 2U);
  EXPECT_EQ(load->connections, 2U);
  EchoServer next;
  plane_.route(next.address(), 2);
  plane_.data->drain(Plane::kService, 1, -1, 77);
  settle();
  EXPECT_FALSE(was_drained(77));
  first.close();
  ASSERT_TRUE(plane_.wait([&] { return load->active == 1; }));
  settle();
  EXPECT_FALSE(was_drained(77));
  second.close();
  EXPECT_TRUE(plane_.wait([&] { return was_drained(77); }));
  EXPECT_EQ(load->active, 0U);
  EXPECT_EQ(plane_.drained.size(), 1U);
  served();
  EXPECT_EQ(next.served(), 1U);
}

TEST_P(RouteTest, DrainOfWhatHasNoConnectionReportsAtOnceAndOncePerCall) {
  plane_.data->drain(Plane::kService, 9, -1, 1);
  plane_.data->drain(Plane::kService, 9, -1, 2);
  EXPECT_TRUE(plane_.wait([&] { return plane_.drained.size() == 2; }));
  settle();
  EXPECT_EQ(plane_.drained, (std::vector<std::uint64_t>{1, 2}));
}

TEST_P(RouteTest, DrainOfOneInstanceDoesNotWaitForTheOthers) {
  EchoServer other;
  const Endpoint stays = make_endpoint(echo_.address(), 1, 0);
  const Endpoint goes = make_endpoint(other.address(), 1, 1);
  plane_.route({stays, goes}, config::Balance::kLeastConnections);
  Peer first = served();
  Peer second = served();
  EXPECT_EQ(goes.load->active, 1U);
  plane_.route({stays});
  plane_.data->drain(Plane::kService, 1, 1, 5);
  settle();
  EXPECT_FALSE(was_drained(5));
  plane_.data->cut(Plane::kService, 1, 1);
  EXPECT_TRUE(plane_.wait([&] { return was_drained(5); }));
  EXPECT_EQ(stays.load->active, 1U);
  EXPECT_EQ(plane_.counts().cut, 1U);
}

TEST_P(RouteTest, CutClosesAGenerationAndNoOther) {
  plane_.route(echo_.address(), 1);
  std::vector<Peer> old;
  for (int i = 0; i < 30; ++i) old.push_back(served());
  EchoServer next;
  plane_.route(next.address(), 2);
  settle();
  Peer fresh = served();
  plane_.data->drain(Plane::kService, 1, -1, 8);
  plane_.data->cut(Plane::kService, 1, -1);
  for (Peer& client : old) EXPECT_EQ(client.receive_all().bytes, "");
  EXPECT_TRUE(plane_.wait([&] { return was_drained(8); }));
  EXPECT_EQ(plane_.counts().cut, 30U);
  fresh.send("still");
  EXPECT_EQ(fresh.receive(5), "still");
}

TEST_P(RouteTest, AnInstanceThatRefusesIsPassedOver) {
  for (const auto balance :
       {config::Balance::kLeastConnections, config::Balance::kRoundRobin, config::Balance::kRandom}) {
    const Endpoint dead = make_endpoint(dead_address(), 1, 0);
    const Endpoint alive = make_endpoint(echo_.address(), 1, 1);
    plane_.route({dead, alive}, balance);
    settle();
    std::vector<Peer> clients;
    for (int i = 0; i < 20; ++i) clients.push_back(served());
    EXPECT_EQ(alive.load->connections, 20U);
    EXPECT_EQ(dead.load->active, 0U);
  }
  EXPECT_GT(plane_.counts().connect_failures, 0U);
  EXPECT_EQ(plane_.counts().held_total, 0U);
}

// Seventy instances, one of which is alive: those after the 64th share their bits of Connection::tried with
// others, whose failures must not be held against it.
TEST(Route, TheOneAliveAmongMoreThan64IsFound) {
  for (const std::uint16_t alive : {0, 5, 63, 64, 69}) {
    Plane plane(with(1));
    EchoServer echo;
    SocketPath nobody;
    std::vector<Endpoint> endpoints;
    for (std::uint16_t i = 0; i < 70; ++i) {
      endpoints.push_back(
          make_endpoint(i == alive ? echo.address() : nobody.address(std::to_string(i)), 1, i));
    }
    plane.route(endpoints, config::Balance::kRoundRobin);
    plane.list();  // the route is there
    for (int i = 0; i < 100; ++i) {
      Peer client = plane.client();
      client.send("x");
      EXPECT_EQ(client.receive(1), "x");
    }
    EXPECT_EQ(plane.counts().held_total, 0U) << alive;
    EXPECT_EQ(endpoints[alive].load->connections, 100U);
  }
}

// None of seventy is alive: trying them all comes to an end.
TEST(Route, NoneAliveAmongMoreThan64Holds) {
  Plane plane(with(1));
  SocketPath nobody;
  std::vector<Endpoint> endpoints;
  for (std::uint16_t i = 0; i < 70; ++i) {
    endpoints.push_back(make_endpoint(nobody.address(std::to_string(i)), 1, i));
  }
  plane.route(endpoints);
  Peer client = plane.client();
  client.send("x");
  ASSERT_TRUE(plane.wait([&] { return plane.counts().held == 1; }));
  EchoServer echo(nobody.address("69"));
  EXPECT_EQ(client.receive(1), "x");
}

// With many services, "generation 3, instance 0" names nobody. And one service's failures do not hide
// another's.
TEST(Route, AFailureNamesItsService) {
  ScratchDirectory directory;
  const std::string file = directory.path() + "/log";
  ASSERT_TRUE(log::configure({.file = file}));
  {
    config::Service shop;
    shop.name = "shop";
    Plane plane(with(1, shop));
    config::Service blog;
    blog.name = "blog";
    Listener other = make_listener(SocketAddress::loopback(0));
    plane.data->add_service(8, blog, {&other});
    const Endpoint dead = make_endpoint(SocketPath().address("nobody"));
    plane.route({dead});
    plane.data->set_route(8, std::make_shared<const Route>(Route{{}, {dead}}));
    Peer shopper = plane.client();
    Peer reader = Peer::connect(other.address);
    EXPECT_TRUE(plane.wait(
        [&] { return plane.counts().connect_failures > 0 && plane.data->counts(8).connect_failures > 0; }));
    plane.data.reset();
  }
  ASSERT_TRUE(log::configure({}));
  std::ostringstream text;
  text << std::ifstream(file).rdbuf();
  EXPECT_NE(text.str().find("service=shop"), std::string::npos) << text.str();
  EXPECT_NE(text.str().find("service=blog"), std::string::npos) << text.str();
}

TEST_P(RouteTest, ListShowsEveryConnection) {
  plane_.route(echo_.address(), 4);
  Peer first = served();
  Peer second = served();
  second.finish();
  EXPECT_EQ(second.receive_all().bytes, "");
  const auto all = plane_.list();
  ASSERT_GE(all.size(), 1U);
  const auto named = std::find_if(all.begin(), all.end(), [&](const ConnectionInfo& info) {
    return info.client == local_address(first.fd())->to_string();
  });
  ASSERT_NE(named, all.end());
  EXPECT_EQ(named->generation, 4U);
  EXPECT_EQ(named->state, "relaying");
  EXPECT_EQ(named->bytes_in, 1U);
  EXPECT_EQ(named->bytes_out, 1U);
}

// The limit is of what was asked for: the many of another generation do not use it up.
TEST_P(RouteTest, AListOfOneGenerationIsLimitedByItselfAlone) {
  plane_.route(echo_.address(), 1);
  settle();
  std::vector<Peer> clients;
  for (int i = 0; i < 20; ++i) clients.push_back(served());
  plane_.route(echo_.address(), 2);
  settle();
  for (int i = 0; i < 3; ++i) clients.push_back(served());
  plane_.hold();
  settle();
  clients.push_back(plane_.client());
  ASSERT_TRUE(plane_.wait([&] { return plane_.counts().held == 1; }));
  const auto size = [&](std::optional<std::uint32_t> generation, std::size_t limit, bool truncated) {
    const ConnectionList list = plane_.list_of(generation, limit);
    EXPECT_EQ(list.truncated, truncated);
    for (const auto& info : list.connections)
      EXPECT_EQ(info.generation, generation.value_or(info.generation));
    return list.connections.size();
  };
  EXPECT_EQ(size(2, 3, false), 3U);
  EXPECT_EQ(size(2, 2, true), 2U);
  EXPECT_EQ(size(1, 20, false), 20U);
  EXPECT_EQ(size(0, 5, false), 1U);
  EXPECT_EQ(size(7, 5, false), 0U);
  EXPECT_EQ(size(std::nullopt, 24, false), 24U);
  EXPECT_EQ(size(std::nullopt, 23, true), 23U);
  EXPECT_EQ(size(std::nullopt, 0, true), 0U);
}

// A long list is made bit by bit: what is asked after it is done before it is.
TEST(Route, AListOfManyDoesNotStallTheWorker) {
  constexpr std::size_t kClients = 1500;
  const std::size_t wanted = open_descriptors() + 2 * kClients + 100;
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  if (limit.rlim_max < wanted) GTEST_SKIP() << "needs " << wanted << " descriptors (ulimit -n)";
  limit.rlim_cur = std::max<rlim_t>(limit.rlim_cur, wanted);
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &limit), 0);
  Plane plane({.threads = 1, .service = {}, .max_descriptors = 10'000});
  std::vector<Peer> clients;
  for (std::size_t i = 0; i < kClients; ++i) clients.push_back(plane.client());
  ASSERT_TRUE(plane.wait([&] { return plane.counts().held == kClients; }));
  std::set<std::string> seen;
  for (const auto& info : plane.list()) seen.insert(info.client);
  EXPECT_EQ(seen.size(), kClients);
  // The worker may have made the whole list before it was asked for more: then once again.
  bool overtaken = false;
  for (std::uint64_t token = 1; token < 200 && !overtaken; ++token) {
    bool listed = false;
    plane.data->list_connections(Plane::kService, std::nullopt, 10'000, [&](const ConnectionList& list) {
      listed = true;
      overtaken = !plane.drained.empty() && plane.drained.back() == token;
      EXPECT_EQ(list.connections.size(), kClients);
    });
    plane.data->drain(Plane::kService, 9, -1, token);
    ASSERT_TRUE(plane.wait([&] { return listed && plane.drained.size() == token; }));
  }
  EXPECT_TRUE(overtaken);
}

TEST_P(RouteTest, ARemovedServiceIsGoneAndAnotherWorksOn) {
  plane_.route(echo_.address(), 1);
  Listener other = make_listener(SocketAddress::loopback(0));
  plane_.data->add_service(8, config::Service{}, {&other});
  plane_.data->set_route(8, std::make_shared<const Route>(Route{{}, {make_endpoint(echo_.address())}}));
  Peer mine = served();
  Peer theirs = Peer::connect(other.address);
  theirs.send("x");
  EXPECT_EQ(theirs.receive(1), "x");
  plane_.data->drain(Plane::kService, 1, -1, 3);
  bool removed = false;
  plane_.data->remove_service(Plane::kService, [&] { removed = true; });
  ASSERT_TRUE(plane_.wait([&] { return removed && was_drained(3); }));
  EXPECT_EQ(mine.receive_all().bytes, "");
  theirs.send("on");
  EXPECT_EQ(theirs.receive(2), "on");
  plane_.data.reset();
}

// Clients come all the time while the route goes from instance to instance: none is refused, reset or lost.
TEST_P(RouteTest, NobodyNoticesManySwitches) {
  std::vector<std::unique_ptr<EchoServer>> servers;
  for (int i = 0; i < 4; ++i) servers.push_back(std::make_unique<EchoServer>());
  plane_.route(servers[0]->address(), 1);
  std::atomic<bool> stop{false};
  std::atomic<unsigned> served_clients{0};
  std::vector<std::jthread> threads;
  for (int t = 0; t < 2; ++t) {
    threads.emplace_back([&] {
      while (!stop) {
        Peer client = plane_.client();
        client.send("hello");
        EXPECT_EQ(client.receive(5), "hello");
        ++served_clients;
      }
    });
  }
  for (std::uint32_t generation = 2; generation < 60; ++generation) {
    const unsigned before = served_clients;
    if (generation % 3 == 0) plane_.hold();
    plane_.route(servers[generation % 4]->address(), generation);
    plane_.data->drain(Plane::kService, generation - 1, -1, generation);
    EXPECT_TRUE(plane_.wait([&] { return was_drained(generation) && served_clients > before; }));
  }
  stop = true;
  threads.clear();
}

TEST(Route, LeastConnectionsEvensOut) {
  Plane plane(with(3));
  EchoServer servers[3];
  std::vector<Endpoint> endpoints;
  for (std::uint16_t i = 0; i < 3; ++i) endpoints.push_back(make_endpoint(servers[i].address(), 1, i));
  plane.route(endpoints);
  std::vector<Peer> clients;
  for (int i = 0; i < 30; ++i) {
    clients.push_back(plane.client());
    clients.back().send("x");
    EXPECT_EQ(clients.back().receive(1), "x");
  }
  for (const Endpoint& endpoint : endpoints) EXPECT_EQ(endpoint.load->active, 10U);
}

// The first bytes may have been read for an instance that then refused, with its header in front of them.
TEST(Route, EachInstanceGetsTheHeaderOfItsGeneration) {
  const std::optional<ProxyVersion> kinds[] = {std::nullopt, ProxyVersion::kV1, ProxyVersion::kV2};
  for (const std::size_t size : {std::size_t{5}, std::size_t{100'000}}) {
    for (const auto refusing : kinds) {
      for (const auto taking : kinds) {
        Plane plane(with(1));
        Listening backend;
        Peer client = plane.client();
        const std::string words = pattern(size, 3);
        client.send(words);
        ASSERT_TRUE(plane.wait([&] { return plane.counts().held == 1; }));
        plane.send_proxy = refusing;
        plane.route({make_endpoint(dead_address(), 1, 0)});
        ASSERT_TRUE(plane.wait([&] { return plane.counts().connect_failures > 0; }));
        const SocketAddress source = *SocketAddress::parse(plane.list().front().client);
        plane.send_proxy = taking;
        plane.route(backend.address(), 2);
        Peer server = backend.accept();
        client.finish();
        EXPECT_TRUE(server.receive_all().bytes ==
                    (taking ? encode_proxy_header(*taking, &source, &plane.listener.address) : "") + words);
      }
    }
  }
}

// It lingers for the client's sake alone.
TEST_P(RouteTest, AClientThatLingersDoesNotHoldUpTheDrain) {
  Listening backend;
  plane_.route(backend.address(), 1);
  Peer client = plane_.client();
  client.send("question");
  {
    Peer server = backend.accept();
    EXPECT_EQ(server.receive(8), "question");
    server.send("answer");
  }
  EXPECT_EQ(client.receive_all().bytes, "answer");
  ASSERT_TRUE(plane_.wait([&] {
    client.send("and more");
    return plane_.list().front().state == "lingering";
  }));
  plane_.hold();
  plane_.data->drain(Plane::kService, 1, -1, 5);
  EXPECT_TRUE(plane_.wait([&] { return was_drained(5); }));
}

// Nor does one whose instance has reset it, and who has not read yet what came before.
TEST_P(RouteTest, AResetThatIsStillToBePassedOnDoesNotHoldUpTheDrain) {
  Listening backend;
  plane_.route(backend.address(), 1);
  Peer client = plane_.client(4096);
  client.send("question");
  const std::string response = pattern(100'000, 1);
  {
    Peer server = backend.accept();
    EXPECT_EQ(server.receive(8), "question");
    server.send(response);
    ASSERT_TRUE(plane_.wait([&] { return plane_.counts().bytes_out == response.size(); }));
    server.reset();
  }
  ASSERT_TRUE(plane_.wait([&] { return plane_.list().front().state == "lingering"; }));
  plane_.hold();
  plane_.data->drain(Plane::kService, 1, -1, 5);
  EXPECT_TRUE(plane_.wait([&] { return was_drained(5); }));
  const Received got = client.receive_all();
  EXPECT_EQ(got.bytes, response);
  EXPECT_EQ(got.error, ECONNRESET);
}

}  // namespace
}  // namespace relayd::net::test
