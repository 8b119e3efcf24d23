#include "proxy/steering/census.h"

#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <ctime>
#include <thread>

#include "tests/steering/fixture.h"

namespace relayd::steering {
namespace {

using std::chrono::steady_clock;

class CensusTest : public SteeringTest {
 protected:
  void SetUp() override {
    SteeringTest::SetUp();
    if (IsSkipped()) return;
    open_ = listening("127.0.0.1:0");
    ports_ = {local_address(open_.get())->port()};
    service_ = *switch_->add_service();
    ASSERT_TRUE(switch_->add_address(service_, *local_address(open_.get())));
  }
  std::vector<SteeredConnection> list(std::vector<pid_t> groups) {
    auto found = steered_connections(*sockets_, groups, ports_);
    EXPECT_TRUE(found) << found.error().message;
    return found ? *found : std::vector<SteeredConnection>{};
  }
  DrainCount drain(const App& app) {
    std::vector<DrainCount::Listener> listeners;
    for (const auto& one : held_) listeners.push_back({one.inode, one.address.port(), one.family});
    return DrainCount({app.group()}, ports_, std::move(listeners));
  }
  // Looks until nothing is left; false if it does not come to that in 10 s.
  bool drains(DrainCount& count) {
    const auto until = steady_clock::now() + std::chrono::seconds(10);
    while (steady_clock::now() < until) {
      if (count.look(*sockets_)->drained) return true;
      std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
    return false;
  }
  // A connection that the app has greeted, and so accepted.
  Descriptor client(char letter) {
    Descriptor connection = connect_to(at(open_, "127.0.0.1"));
    EXPECT_EQ(greeting(connection.get()), letter);
    return connection;
  }

  Descriptor open_;
  std::vector<std::uint16_t> ports_;
  Switch::Service service_ = 0;
};

TEST_F(CensusTest, TellsWhoseAConnectionIs) {
  const App old('1', {.keep = true}), fresh('2', {.workers = 2, .keep = true});
  steer(service_, {&old});
  const Descriptor first = client('1'), second = client('1');
  steer(service_, {&fresh});  // a worker accepts
  const Descriptor third = client('2');

  EXPECT_EQ(list({old.group()}).size(), 2U);
  EXPECT_EQ(list({old.group(), fresh.group()}).size(), 3U);
  const auto found = list({fresh.group()});
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].group, fresh.group());
  EXPECT_EQ(found[0].local, *local_address(open_.get()));
  EXPECT_EQ(found[0].peer, *local_address(third.get()));
  EXPECT_EQ(found[0].state, TCP_ESTABLISHED);
}

TEST_F(CensusTest, AnAppThatHasNotNoticedTheEndStillCounts) {
  const App app('1', {.keep = true});
  steer(service_, {&app});
  const Descriptor connection = client('1');
  ::shutdown(connection.get(), SHUT_WR);
  const auto found = list({app.group()});
  ASSERT_EQ(found.size(), 1U);
  EXPECT_EQ(found[0].state, TCP_CLOSE_WAIT);
}

TEST_F(CensusTest, ADrainEndsWithTheLastConnection) {
  App old('1', {.keep = true});
  const App fresh('2', {.keep = true});
  steer(service_, {&old});
  const Descriptor first = client('1'), second = client('1');
  DrainCount count = drain(old);
  steer(service_, {&fresh});
  std::vector<Descriptor> others;
  for (int i = 0; i < 4; ++i) {  // the new generation's do not count, whenever they come
    EXPECT_EQ(count.look(*sockets_)->connections, 2U);
    others.push_back(client('2'));
  }
  EXPECT_FALSE(count.look(*sockets_)->drained);
  old.kill();  // closes them
  EXPECT_TRUE(drains(count));
  EXPECT_EQ(list({fresh.group()}).size(), 4U);
}

TEST_F(CensusTest, WhoWaitsInTheQueueHoldsUpTheDrain) {
  App app('1', {.deaf = true});
  steer(service_, {&app});
  const Descriptor one = connect_to(at(open_, "127.0.0.1")), two = connect_to(at(open_, "127.0.0.1"));
  DrainCount count = drain(app);
  ASSERT_TRUE(switch_->steer(service_, {}));
  for (int i = 0; i < 3; ++i) {
    const auto left = *count.look(*sockets_);
    EXPECT_EQ(left.waiting, 2U);
    EXPECT_EQ(left.connections, 0U);
    EXPECT_FALSE(left.drained);
  }
  EXPECT_TRUE(public_has_one(held_[0].socket));  // accepted and closed
  EXPECT_EQ(count.look(*sockets_)->waiting, 1U);
  EXPECT_TRUE(public_has_one(held_[0].socket));
  EXPECT_TRUE(drains(count));
}

// What is in the queue at the first look and accepted by the second is learnt then.
TEST_F(CensusTest, WhoIsAcceptedWithinTheDrainCounts) {
  const App app('1', {.keep = true});
  steer(service_, {&app});
  ::kill(app.group(), SIGSTOP);
  const Descriptor connection = connect_to(at(open_, "127.0.0.1"));
  DrainCount count = drain(app);
  ASSERT_TRUE(switch_->steer(service_, {}));
  EXPECT_EQ(count.look(*sockets_)->waiting, 1U);
  ::kill(app.group(), SIGCONT);
  EXPECT_EQ(greeting(connection.get()), '1');
  for (int i = 0; i < 4; ++i) {
    const auto left = *count.look(*sockets_);
    EXPECT_EQ(left.waiting, 0U);
    EXPECT_EQ(left.connections, 1U);
    EXPECT_FALSE(left.drained);
  }
}

TEST_F(CensusTest, OneThatHasNothingIsDrainedAtTheSecondLook) {
  const App app('1');
  steer(service_, {&app});
  DrainCount count = drain(app);
  EXPECT_FALSE(count.look(*sockets_)->drained);
  EXPECT_TRUE(count.look(*sockets_)->drained);
}

// No time is asserted; they are printed to be looked at.
TEST_F(CensusTest, CostOfALookWithThousandsOfConnections) {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  limit.rlim_cur = limit.rlim_max;
  ::setrlimit(RLIMIT_NOFILE, &limit);
  const std::size_t wanted = std::min<std::size_t>(10000, limit.rlim_cur - 1000);
  App app('1', {.keep = true});
  steer(service_, {&app});
  std::vector<Descriptor> clients;
  for (std::size_t i = 0; i < wanted; ++i) clients.push_back(client('1'));
  DrainCount count = drain(app);
  ASSERT_TRUE(switch_->steer(service_, {}));
  for (int i = 0; i < 5; ++i) {
    const std::clock_t before = std::clock();
    EXPECT_EQ(count.look(*sockets_)->connections, wanted);
    const auto took = static_cast<double>(std::clock() - before) * 1000 / CLOCKS_PER_SEC;
    std::printf("look %d at %zu connections: %.1f ms of CPU\n", i, wanted, took);
  }
  clients.clear();
  app.kill();
  EXPECT_TRUE(drains(count));
}

}  // namespace
}  // namespace relayd::steering
