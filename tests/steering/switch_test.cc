#include "proxy/steering/switch.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <map>
#include <thread>

#include "tests/steering/fixture.h"

namespace relayd::steering {
namespace {

using SwitchTest = SteeringTest;

TEST_F(SwitchTest, AnIpv4ConnectionGoesToTheAppThatKnowsNothingOfIt) {
  const Descriptor open = listening("127.0.0.1:0");
  const App app('a');
  const auto service = *switch_->add_service();
  ASSERT_TRUE(switch_->add_address(service, *local_address(open.get())));
  steer(service, {&app});
  const Descriptor connection = connect_to(at(open, "127.0.0.1"));
  EXPECT_EQ(greeting(connection.get()), 'a');
  EXPECT_EQ(*peer_address(connection.get()), *local_address(open.get()));  // the public address answers
}

TEST_F(SwitchTest, AnIpv6ConnectionGoesToAnIpv6Listener) {
  const Descriptor open = listening("[::1]:0");
  const App app('a', {.listen = {"[::1]:0"}});
  const auto service = *switch_->add_service();
  ASSERT_TRUE(switch_->add_address(service, *local_address(open.get())));
  steer(service, {&app});
  EXPECT_EQ(ask(at(open, "[::1]")), 'a');
}

TEST_F(SwitchTest, WhatAFamilyCannotTakeIsLeftToThePublicListener) {
  const Descriptor open4 = listening("0.0.0.0:0");
  const std::string port = std::to_string(local_address(open4.get())->port());
  const Descriptor open6 = listening("[::]:" + port);
  const App four('4'), six('6', {.listen = {"[::1]:0"}}),
      both('b', {.listen = {"[::]:0"}, .ipv6_only = false});
  const auto service = *switch_->add_service();
  ASSERT_TRUE(switch_->add_address(service, *local_address(open4.get())));
  ASSERT_TRUE(switch_->add_address(service, *local_address(open6.get())));

  steer(service, {&four});
  EXPECT_EQ(ask(at(open4, "127.0.0.1")), '4');
  Descriptor connection = connect_to(at(open6, "[::1]"));
  EXPECT_TRUE(public_has_one(open6));

  steer(service, {&six});
  EXPECT_EQ(ask(at(open6, "[::1]")), '6');
  connection = connect_to(at(open4, "127.0.0.1"));
  EXPECT_TRUE(public_has_one(open4));

  steer(service, {&both});
  EXPECT_EQ(ask(at(open4, "127.0.0.1")), 'b');
  EXPECT_EQ(ask(at(open6, "[::1]")), 'b');

  steer(service, {&six, &both, &four});  // each family has its own row of the three
  std::map<char, int> by4, by6;
  for (int i = 0; i < 200; ++i) {
    ++by4[ask(at(open4, "127.0.0.1"))];
    ++by6[ask(at(open6, "[::1]"))];
  }
  EXPECT_EQ(by4.size(), 2U);
  EXPECT_GT(by4['4'], 40);
  EXPECT_GT(by4['b'], 40);
  EXPECT_EQ(by6.size(), 2U);
  EXPECT_GT(by6['6'], 40);
  EXPECT_GT(by6['b'], 40);
}

TEST_F(SwitchTest, AnExactAddressGoesBeforeTheWildcard) {
  const Descriptor wild = listening("0.0.0.0:0", true);
  const Descriptor exact = listening("127.0.0.2:" + std::to_string(local_address(wild.get())->port()), true);
  const App one('1'), two('2');
  const auto first = *switch_->add_service(), second = *switch_->add_service();
  ASSERT_TRUE(switch_->add_address(first, *local_address(wild.get())));
  ASSERT_TRUE(switch_->add_address(second, *local_address(exact.get())));
  auto found1 = one.listeners(*sockets_), found2 = two.listeners(*sockets_);
  ASSERT_TRUE(switch_->steer(first, std::array{found1[0].socket.get()}));
  ASSERT_TRUE(switch_->steer(second, std::array{found2[0].socket.get()}));
  EXPECT_EQ(ask(at(wild, "127.0.0.1")), '1');
  EXPECT_EQ(ask(at(wild, "127.0.0.3")), '1');
  EXPECT_EQ(ask(at(wild, "127.0.0.2")), '2');

  ASSERT_TRUE(switch_->steer(second, {}));  // held: not the wildcard's apps
  const Descriptor connection = connect_to(at(wild, "127.0.0.2"));
  EXPECT_TRUE(public_has_one(exact));

  switch_->remove_service(second);
  EXPECT_EQ(ask(at(wild, "127.0.0.2")), '1');
}

// As when a service is renamed, and the old one goes later.
TEST_F(SwitchTest, AnAddressIsTheLastServicesThatAskedForIt) {
  const Descriptor open = listening("127.0.0.1:0");
  const App one('1'), two('2');
  const auto first = *switch_->add_service(), second = *switch_->add_service();
  auto found1 = one.listeners(*sockets_), found2 = two.listeners(*sockets_);
  ASSERT_TRUE(switch_->steer(first, std::array{found1[0].socket.get()}));
  ASSERT_TRUE(switch_->steer(second, std::array{found2[0].socket.get()}));
  ASSERT_TRUE(switch_->add_address(first, *local_address(open.get())));
  EXPECT_EQ(ask(at(open, "127.0.0.1")), '1');
  ASSERT_TRUE(switch_->add_address(second, *local_address(open.get())));
  EXPECT_EQ(ask(at(open, "127.0.0.1")), '2');
  switch_->remove_address(first, *local_address(open.get()));
  EXPECT_EQ(ask(at(open, "127.0.0.1")), '2');
  switch_->remove_address(second, *local_address(open.get()));
  const Descriptor connection = connect_to(at(open, "127.0.0.1"));
  EXPECT_TRUE(public_has_one(open));
  EXPECT_EQ(switch_->add_address(second, *SocketAddress::parse("unix:/run/x")).error().code, EAFNOSUPPORT);
}

TEST_F(SwitchTest, SeveralInstancesShareTheConnections) {
  const Descriptor open = listening("127.0.0.1:0");
  const App one('1'), two('2'), three('3', {.reuse_port = 2});
  const auto service = *switch_->add_service();
  ASSERT_TRUE(switch_->add_address(service, *local_address(open.get())));
  steer(service, {&one, &two, &three});
  EXPECT_EQ(held_.size(), 4U);
  std::map<char, int> seen;
  for (int i = 0; i < 400; ++i) ++seen[ask(at(open, "127.0.0.1"))];
  EXPECT_GT(seen['1'], 50);
  EXPECT_GT(seen['2'], 50);
  EXPECT_GT(seen['3'], 100);
  EXPECT_EQ(seen['1'] + seen['2'] + seen['3'], 400);
}

TEST_F(SwitchTest, SteeredToNobodyThePublicListenerTakesThem) {
  const Descriptor open = listening("127.0.0.1:0");
  const App app('a');
  const auto service = *switch_->add_service();
  ASSERT_TRUE(switch_->add_address(service, *local_address(open.get())));
  steer(service, {&app});
  EXPECT_EQ(ask(at(open, "127.0.0.1")), 'a');
  ASSERT_TRUE(switch_->steer(service, {}));
  const Descriptor held = connect_to(at(open, "127.0.0.1"));
  EXPECT_TRUE(public_has_one(open));
  EXPECT_EQ(greeting(held.get()), 'r');
  steer(service, {&app});
  EXPECT_EQ(ask(at(open, "127.0.0.1")), 'a');
}

TEST_F(SwitchTest, AListenerThatNobodyHasOpenLeavesByItself) {
  const Descriptor open = listening("127.0.0.1:0");
  App app('a');
  const auto service = *switch_->add_service();
  ASSERT_TRUE(switch_->add_address(service, *local_address(open.get())));
  steer(service, {&app});
  EXPECT_EQ(ask(at(open, "127.0.0.1")), 'a');
  held_.clear();
  app.kill();
  const Descriptor connection = connect_to(at(open, "127.0.0.1"));
  ASSERT_TRUE(connection);
  EXPECT_TRUE(public_has_one(open));
}

// Whoever waits in a crashed app's queue is still there to be accepted.
TEST_F(SwitchTest, ADuplicateKeepsTheQueueOfAKilledApp) {
  const Descriptor open = listening("127.0.0.1:0");
  App app('a', {.deaf = true});
  const auto service = *switch_->add_service();
  ASSERT_TRUE(switch_->add_address(service, *local_address(open.get())));
  steer(service, {&app});
  const Descriptor one = connect_to(at(open, "127.0.0.1")), two = connect_to(at(open, "127.0.0.1"));
  app.kill();
  ASSERT_TRUE(switch_->steer(service, {}));
  EXPECT_TRUE(public_has_one(held_[0].socket));
  EXPECT_TRUE(public_has_one(held_[0].socket));
  EXPECT_EQ(greeting(one.get()), 'r');
  EXPECT_EQ(greeting(two.get()), 'r');
}

TEST_F(SwitchTest, AnAddressCanBeRefusedThoughADuplicateListensThere) {
  App app('a', {.deaf = true});
  auto kept = app.listeners(*sockets_);
  app.kill();
  EXPECT_TRUE(connect_to(kept[0].address));
  switch_->refuse(kept[0].address);
  EXPECT_FALSE(connect_to(kept[0].address));
  EXPECT_EQ(errno, ECONNREFUSED);
  switch_->accept_again(kept[0].address);
  EXPECT_TRUE(connect_to(kept[0].address));
}

TEST_F(SwitchTest, ASocketThatDoesNotListenIsRefusedAndNothingChanges) {
  const Descriptor open = listening("127.0.0.1:0");
  const App app('a');
  const auto service = *switch_->add_service();
  ASSERT_TRUE(switch_->add_address(service, *local_address(open.get())));
  steer(service, {&app});
  const Descriptor idle(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_FALSE(switch_->steer(service, std::array{held_[0].socket.get(), idle.get()}));
  EXPECT_EQ(ask(at(open, "127.0.0.1")), 'a');
}

// More switches than there are places: they are used again, and none is lost.
TEST_F(SwitchTest, PlacesAreUsedAgain) {
  const Descriptor open = listening("127.0.0.1:0");
  const App one('1'), two('2');
  const auto service = *switch_->add_service();
  ASSERT_TRUE(switch_->add_address(service, *local_address(open.get())));
  auto found1 = one.listeners(*sockets_), found2 = two.listeners(*sockets_);
  std::vector<int> first(1000, found1[0].socket.get()), second(777, found2[0].socket.get());
  for (int i = 0; i < 50; ++i) {
    ASSERT_TRUE(switch_->steer(service, first)) << i;
    ASSERT_EQ(ask(at(open, "127.0.0.1")), '1') << i;
    ASSERT_TRUE(switch_->steer(service, second)) << i;
    ASSERT_EQ(ask(at(open, "127.0.0.1")), '2') << i;
  }
  EXPECT_EQ(switch_->steer(service, std::vector<int>(Switch::kSockets, found1[0].socket.get())).error().code,
            ENOSPC);
  EXPECT_EQ(ask(at(open, "127.0.0.1")), '2');
}

TEST_F(SwitchTest, ServicesEnd) {
  std::vector<Switch::Service> all;
  for (std::uint32_t i = 0; i < Switch::kServices; ++i) all.push_back(*switch_->add_service());
  EXPECT_EQ(switch_->add_service().error().code, ENOSPC);
  switch_->remove_service(all[7]);
  EXPECT_EQ(*switch_->add_service(), all[7]);
}

// A connection is with the old app, with the new one, or in the public listener: nowhere is it lost.
TEST_F(SwitchTest, NoConnectionIsLostThroughSwitchesUnderLoad) {
  const Descriptor open = listening("127.0.0.1:0");
  const App one('1', {.workers = 1}), two('2', {.workers = 1});
  const auto service = *switch_->add_service();
  ASSERT_TRUE(switch_->add_address(service, *local_address(open.get())));
  steer(service, {&one});
  auto found1 = one.listeners(*sockets_), found2 = two.listeners(*sockets_);
  constexpr int kClients = 4, kEach = 2000;
  std::atomic<int> asked = 0, lost = 0, by_one = 0, by_two = 0, by_public = 0;
  std::vector<std::thread> clients;
  std::thread relay([&] {  // a SYN that had read the row of before finds its places empty now and then
    while (asked < kClients * kEach) {
      pollfd ready{open.get(), POLLIN, 0};
      if (::poll(&ready, 1, 1) == 1) by_public += public_has_one(open);
    }
  });
  for (int i = 0; i < kClients; ++i) {
    clients.emplace_back([&] {
      for (int j = 0; j < kEach; ++j) {
        const char letter = ask(at(open, "127.0.0.1"));
        by_one += letter == '1';
        by_two += letter == '2';
        lost += letter != '1' && letter != '2' && letter != 'r';
        ++asked;
      }
    });
  }
  int switches = 0;
  while (asked < kClients * kEach) {
    const int fd = (switches % 2 == 0 ? found2 : found1)[0].socket.get();
    ASSERT_TRUE(switch_->steer(service, std::array{fd}));
    ++switches;
    std::this_thread::yield();
  }
  for (std::thread& client : clients) client.join();
  relay.join();
  EXPECT_EQ(lost, 0);
  EXPECT_EQ(by_one + by_two + by_public, kClients * kEach);
  EXPECT_GT(by_one, 0);
  EXPECT_GT(by_two, 0);
  std::printf("%d connections through %d switches, %d by the public listener\n", asked.load(), switches,
              by_public.load());
}

// Nothing stays behind a killed relayd: its addresses are as if it had never been.
TEST_F(SwitchTest, AKilledOwnerLeavesNothingBehind) {
  const Descriptor open = listening("127.0.0.1:0");
  const App app('a');
  switch_.reset();
  auto ready = make_pipe();
  const pid_t owner = ::fork();
  if (owner == 0) {
    auto mine = Switch::attach();
    auto found = app.listeners(*sockets_);
    const auto service = *(*mine)->add_service();
    (*mine)->add_address(service, *local_address(open.get()));
    const bool steered = (*mine)->steer(service, std::array{found[0].socket.get()}).has_value();
    if (::write(ready->write.get(), &steered, 1) != 1) ::_exit(1);
    while (true) ::pause();
  }
  bool steered = false;
  ASSERT_EQ(::read(ready->read.get(), &steered, 1), 1);
  EXPECT_TRUE(steered);
  EXPECT_EQ(ask(at(open, "127.0.0.1")), 'a');
  ::kill(owner, SIGKILL);
  ::waitpid(owner, nullptr, 0);
  const Descriptor connection = connect_to(at(open, "127.0.0.1"));
  ASSERT_TRUE(connection);
  EXPECT_TRUE(public_has_one(open));
}

TEST_F(SwitchTest, ItsDescriptorsAreCloseOnExec) {
  const auto all = switch_->save();
  for (const int fd : {all.addresses, all.services, all.sockets, all.link}) {
    ASSERT_GE(fd, 0);
    EXPECT_EQ(::fcntl(fd, F_GETFD), FD_CLOEXEC);
  }
}

}  // namespace
}  // namespace relayd::steering
