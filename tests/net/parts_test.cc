// The parts that need no socket.
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <cstring>
#include <map>
#include <random>
#include <set>

#include "proxy/net/chunk_pool.h"
#include "proxy/net/endpoints.h"
#include "proxy/net/relay.h"
#include "proxy/net/slab.h"
#include "proxy/net/watch.h"

namespace relayd::net {
namespace {

TEST(Slab, SlotsAreUsedAgainAndComeBackFresh) {
  Slab slab;
  const Index first = slab.allocate();
  slab[first].bytes_in = 7;
  slab[first].state = State::kRelaying;
  slab.release(first);
  EXPECT_EQ(slab[first].state, State::kFree);
  const Index again = slab.allocate();
  EXPECT_EQ(again, first);
  EXPECT_EQ(slab[again].bytes_in, 0U);
}

TEST(Slab, GrowsWithoutMovingAnything) {
  Slab slab;
  Connection* const first = &slab[slab.allocate()];
  for (int i = 0; i < 5000; ++i) slab.allocate();
  EXPECT_EQ(first, &slab[0]);
  EXPECT_GE(slab.size(), 5001U);
}

// As an upgrade restores them.
TEST(Slab, PlacesOfTheCallersChoiceAreKeptAndTheOthersUsed) {
  Slab slab;
  for (const Index index : {700U, 3U, 512U}) {
    slab.place(index).state = State::kRelaying;
    slab[index].bytes_in = index;
  }
  slab.list_free();
  std::set<Index> others;
  for (Index i = 0; i < slab.size() - 3; ++i) others.insert(slab.allocate());
  EXPECT_EQ(others.size(), slab.size() - 3) << "each once, without growing";
  EXPECT_EQ(slab.size(), 1024U);
  for (const Index index : {700U, 3U, 512U}) {
    EXPECT_FALSE(others.contains(index));
    EXPECT_EQ(slab[index].bytes_in, index);
  }
}

// Another release reads them: a change needs a version of the state.
TEST(Watch, KeysAndEventsStayWhatTheyAre) {
  Connection connection;
  connection.id = 0x0123'4567'89ab'cdefU;
  connection.attempts = 0x25;
  EXPECT_EQ(event_key(connection, 0x1234567, kClient), 0x0157'9bde'0246'8aceU);
  EXPECT_EQ(event_key(connection, 0x1234567, kBackend), 0x0b57'9bde'0246'8acfU);
  EXPECT_EQ(kWatchedEvents, 0x8000'2003U);
}

TEST(IndexList, IsWhatAVectorWouldBe) {
  Slab slab;
  IndexList list;
  std::vector<Index> model;
  std::mt19937 random(3);
  for (int i = 0; i < 100; ++i) slab.allocate();
  std::vector<bool> inside(100);
  for (int step = 0; step < 20'000; ++step) {
    const Index index = static_cast<Index>(random() % 100);
    if (inside[index]) {
      list.remove(slab, index);
      std::erase(model, index);
    } else if (random() % 2 == 0 || model.empty()) {
      list.push_back(slab, index);
      model.push_back(index);
    } else {
      const std::size_t at = random() % model.size();
      const bool front = random() % 4 == 0;
      list.insert_after(slab, front ? kNone : model[at], index);
      model.insert(model.begin() + (front ? 0 : static_cast<std::ptrdiff_t>(at) + 1), index);
    }
    inside[index] = !inside[index];
    std::vector<Index> found;
    for (Index at = list.front(); at != kNone; at = slab[at].next) found.push_back(at);
    ASSERT_EQ(found, model);
    ASSERT_EQ(list.size(), model.size());
  }
}

TEST(Ticks, SurviveTheirWrap) {
  EXPECT_TRUE(reached(5, 5));
  EXPECT_FALSE(reached(4, 5));
  EXPECT_TRUE(reached(3, 0xfffffff0U));
  EXPECT_FALSE(reached(0xfffffff0U, 3));
  EXPECT_EQ(to_ticks(Duration(1)), 1U);
  EXPECT_EQ(to_ticks(Duration(250)), 25U);
  EXPECT_EQ(to_ticks(Duration(0)), 0U);
}

TEST(ChunkPool, GivesEachBorrowerItsOwn) {
  ChunkPool pool;
  std::vector<Index> borrowed;
  for (char i = 0; i < 100; ++i) {
    borrowed.push_back(pool.borrow());
    pool[borrowed.back()].data()[0] = i;
  }
  EXPECT_EQ(pool.in_use(), 100U);
  for (char i = 0; i < 100; ++i) EXPECT_EQ(pool[borrowed[static_cast<std::size_t>(i)]].data()[0], i);
  for (const Index index : borrowed) pool.give_back(index);
  EXPECT_EQ(pool.in_use(), 0U);
  EXPECT_EQ(pool[pool.borrow()].end, 0U);
}

TEST(PipePool, GivesBackWhatItHasTakenFromTheBudget) {
  std::atomic<std::uint64_t> used{10};
  std::atomic<std::uint64_t> most{14};
  PipePool pool(used, most);
  const Index first = pool.borrow();
  const Index second = pool.borrow();
  ASSERT_NE(first, kNone);
  ASSERT_NE(second, kNone);
  EXPECT_EQ(used, 14U);
  EXPECT_EQ(pool.borrow(), kNone) << "the budget is used up";
  pool.give_back(first);
  EXPECT_EQ(used, 14U) << "a spare stays open";
  EXPECT_EQ(pool.borrow(), first) << "and is the next one";
  ASSERT_EQ(::write(pool[first].write.get(), "x", 1), 1);
  pool[first].bytes = 1;
  pool.give_back(first);  // with somebody's byte in it: never to be used again
  EXPECT_EQ(used, 12U);
  pool.give_back(second);
  EXPECT_TRUE(pool.trim());
  EXPECT_FALSE(pool.trim());
  EXPECT_EQ(used, 10U);
}

// A connected pair over loopback, so that one end can be reset.
struct TcpPair {
  TcpPair() {
    const auto listening = listen_on(SocketAddress::loopback(0), 1);
    const SocketAddress address = *local_address(listening->get());
    far.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(::connect(far.get(), address.get(), address.length()), 0);
    near.reset(::accept4(listening->get(), nullptr, nullptr, SOCK_CLOEXEC));
    EXPECT_TRUE(set_nonblocking(near.get(), true));
  }
  void reset_far() {
    const linger now{.l_onoff = 1, .l_linger = 0};
    ::setsockopt(far.get(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
    far.reset();
    pollfd told{.fd = near.get(), .events = 0, .revents = 0};
    EXPECT_EQ(::poll(&told, 1, 20'000), 1);
  }

  Descriptor near;  // relayd's end
  Descriptor far;
};

// A Relay and what it borrows from.
struct Relaying {
  ChunkPool chunks;
  ChunkPool small_chunks{kSmallChunkSize};
  std::atomic<std::uint64_t> descriptors{0};
  std::atomic<std::uint64_t> most_descriptors{100};
  PipePool pipes{descriptors, most_descriptors};
  Relay relay{chunks, small_chunks, pipes};
};

class ParkedFirstBytes : public ::testing::Test {
 protected:
  ParkedFirstBytes() {
    connection_.state = State::kRelaying;
    connection_.parked[kClient] = parts_.chunks.borrow();
    Chunk& chunk = parts_.chunks[connection_.parked[kClient]];
    chunk.append("hello");
    connect_to(dying_);
    connection_.fd[kClient] = client_.near.get();
    connection_.side[kClient] = kWriteReady;
    dying_.reset_far();
  }
  void connect_to(const TcpPair& backend) {
    connection_.fd[kBackend] = backend.near.get();
    connection_.side[kBackend] = kWriteReady;
  }

  Relaying parts_;
  Connection connection_;
  TcpPair client_;
  TcpPair dying_;
};

// The first bytes of a client came back from an instance that reset it; the one chosen next resets it too
// before they leave. They must not be lost by that.
TEST_F(ParkedFirstBytes, OutliveASecondReset) {
  connection_.rescues = 1;
  ASSERT_EQ(parts_.relay.run(connection_), Next::kReconnect);
  ASSERT_NE(connection_.parked[kClient], kNone);
  TcpPair third;
  connect_to(third);
  EXPECT_EQ(parts_.relay.run(connection_), Next::kWait);
  char received[8] = {};
  EXPECT_EQ(::recv(third.far.get(), received, sizeof received, 0), 5);
  EXPECT_EQ(std::string(received), "hello");
  EXPECT_EQ(connection_.bytes_in, 5U);
  EXPECT_EQ(parts_.chunks.in_use() + parts_.small_chunks.in_use(), 0U);
}

TEST_F(ParkedFirstBytes, AreGivenUpAfterTheLastRescue) {
  connection_.rescues = kMostRescues;
  EXPECT_NE(parts_.relay.run(connection_), Next::kReconnect);
  EXPECT_EQ(connection_.parked[kClient], kNone);
  EXPECT_TRUE(connection_.side[kBackend] & kFailed);
  EXPECT_EQ(parts_.chunks.in_use() + parts_.small_chunks.in_use(), 0U);
}

// Whoever splices meets the reset, not only whoever is told by an event. Nothing that was cut off must look
// whole.
TEST(Splice, AResetIsNoEnd) {
  Relaying parts;
  TcpPair client;
  TcpPair backend;
  Connection connection;
  connection.state = State::kRelaying;
  connection.fd[kClient] = client.near.get();
  connection.fd[kBackend] = backend.near.get();
  connection.side[kClient] = kWriteReady;
  connection.side[kBackend] = kReadReady | kWriteReady;
  connection.full_reads[kBackend] = 2;  // so that it is spliced at once
  const std::string half(50'000, 'x');
  ASSERT_EQ(::send(backend.far.get(), half.data(), half.size(), 0), static_cast<ssize_t>(half.size()));
  backend.reset_far();
  EXPECT_EQ(parts.relay.run(connection), Next::kReset);
  EXPECT_EQ(connection.bytes_out, half.size());
  EXPECT_EQ(parts.descriptors, 2U) << "a pipe was used";
}

class BalancerTest : public ::testing::Test {
 protected:
  BalancerTest() {
    for (std::uint16_t i = 0; i < 4; ++i) {
      route_.push_back(
          table_.name(1, {.address = SocketAddress::loopback(static_cast<std::uint16_t>(1000 + i)),
                          .generation = 1,
                          .instance = i,
                          .load = std::make_shared<EndpointLoad>()}));
    }
  }
  std::map<Index, int> picks(config::Balance balance, int count, std::uint64_t tried = 0) {
    std::map<Index, int> found;
    for (int i = 0; i < count; ++i) ++found[balancer_.pick(table_, route_, balance, tried)];
    return found;
  }

  EndpointTable table_;
  std::vector<Index> route_;
  Balancer balancer_;
};

TEST_F(BalancerTest, RoundRobinIsExact) {
  for (const auto& [index, count] : picks(config::Balance::kRoundRobin, 400)) EXPECT_EQ(count, 100) << index;
}

TEST_F(BalancerTest, RandomReachesAll) { EXPECT_EQ(picks(config::Balance::kRandom, 400).size(), 4U); }

TEST_F(BalancerTest, LeastConnectionsTakesTheIdleOneAndBreaksTies) {
  EXPECT_EQ(picks(config::Balance::kLeastConnections, 400).size(), 4U);
  for (const Index index : {route_[0], route_[1], route_[3]}) table_.take(index);
  EXPECT_EQ(picks(config::Balance::kLeastConnections, 10), (std::map<Index, int>{{route_[2], 10}}));
}

TEST_F(BalancerTest, WhatWasTriedIsNotTriedAgain) {
  const std::uint64_t but_one = tried_bit(0) | tried_bit(1) | tried_bit(3);
  for (const auto balance :
       {config::Balance::kLeastConnections, config::Balance::kRoundRobin, config::Balance::kRandom}) {
    EXPECT_EQ(picks(balance, 10, but_one), (std::map<Index, int>{{route_[2], 10}}));
    EXPECT_EQ(picks(balance, 1, but_one | tried_bit(2)), (std::map<Index, int>{{kNone, 1}}));
  }
}

TEST_F(BalancerTest, RandomTakesTheLessLoadedOfTwo) {
  for (int i = 0; i < 5; ++i) table_.take(route_[2]);
  const auto found = picks(config::Balance::kRandom, 1000);
  EXPECT_EQ(found.count(route_[2]), 0U);  // whichever is drawn beside it has less to do
  EXPECT_EQ(found.size(), 3U);
}

TEST_F(BalancerTest, WhatHasFailedIsTheLastResortUntilAProbeSucceeds) {
  for (const auto balance :
       {config::Balance::kLeastConnections, config::Balance::kRoundRobin, config::Balance::kRandom}) {
    table_.note_failure(route_[1], 1000);
    EXPECT_EQ(picks(balance, 400).count(route_[1]), 0U);
    const std::uint64_t others = tried_bit(0) | tried_bit(2) | tried_bit(3);
    EXPECT_EQ(picks(balance, 1, others).count(route_[1]), 1U);
    table_.note_success(route_[1]);
    EXPECT_EQ(picks(balance, 400).count(route_[1]), 1U);
  }
}

// Clients that fail meanwhile put no probe off.
TEST_F(BalancerTest, ProbesThatFailComeLessOften) {
  EndpointTable::Entry& entry = table_[route_[0]];
  table_.note_failure(route_[0], 1000);
  const Tick first = entry.retry_at;
  EXPECT_EQ(first, 1000 + to_ticks(std::chrono::milliseconds(200)));
  table_.note_failure(route_[0], 1010);
  EXPECT_EQ(entry.retry_at, first);
  Tick apart = first - 1000;
  for (int i = 0; i < 10; ++i) {
    entry.probed = true;
    table_.note_failure(route_[0], 2000);
    EXPECT_GE(entry.retry_at - 2000, apart);
    apart = entry.retry_at - 2000;
  }
  EXPECT_EQ(apart, to_ticks(std::chrono::milliseconds(6400)));
  table_.note_success(route_[0]);
  table_.note_failure(route_[0], 3000);
  EXPECT_EQ(entry.retry_at - 3000, first - 1000);
}

TEST_F(BalancerTest, AnEntryLivesWhileItIsNamedOrUsed) {
  table_.take(route_[0]);
  EXPECT_FALSE(table_.unname(route_[0]));
  EXPECT_TRUE(table_.has(1, 1, 0));
  EXPECT_FALSE(table_.has(1, 1, 7));
  EXPECT_FALSE(table_.has(2, 1, -1));
  EXPECT_TRUE(table_.leave(route_[0]));
  EXPECT_FALSE(table_.has(1, 1, 0));
  EXPECT_TRUE(table_.has(1, 1, -1));
}

}  // namespace
}  // namespace relayd::net
