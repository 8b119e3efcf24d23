// Random conversations, byte-exact: sizes, pauses, half-closes and resets in both directions, many at once,
// through every way that the plane has of moving bytes. An exchange is one message that was read whole and
// compared. A failure prints the script of its session; RELAYD_SEED plays that one alone, RELAYD_SOAK ten
// times as many.
#include <sys/epoll.h>
#include <sys/socket.h>

#include <cstdlib>
#include <memory>
#include <vector>

#include "tests/net/session.h"
#include "tests/net/support.h"

namespace relayd::net::test {
namespace {

#ifdef __SANITIZE_THREAD__
constexpr std::uint64_t kExchangesPerSetting = 2'000;  // each costs many times as much
#else
constexpr std::uint64_t kExchangesPerSetting = 20'000;  // eight settings
#endif
constexpr std::uint64_t kSessionsPerPlane = 400;
constexpr std::size_t kAtOnce = 48;
constexpr int kQuietMilliseconds = 5;
constexpr std::uint64_t kRoundsPerUpgrade = 97;

struct Totals {
  std::uint64_t messages = 0;
  std::uint64_t large = 0;
  std::uint64_t broken = 0;           // sessions that did not end in order
  std::uint64_t written[2] = {0, 0};  // bytes, by side
  std::uint64_t received[2] = {0, 0};
};

// Plays sessions through one plane, on one thread. Clients connect one after the other, each as soon as the
// one before it has its backend connection: so each backend connection is known to be whose.
class Stage {
 public:
  // `upgrades`: relayd is replaced again and again, twice by one of so many threads and then twice of one
  // more; 0: never.
  Stage(Plane& plane, Listening& backend, unsigned upgrades)
      : upgrades_(upgrades),
        plane_(plane),
        backend_(backend),
        epoll_(::epoll_create1(EPOLL_CLOEXEC)),
        slots_(kAtOnce) {
    epoll_event event{.events = EPOLLIN, .data = {.u64 = kListener}};
    EXPECT_EQ(::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, backend_.fd(), &event), 0);
  }

  // Scripts of the seeds first, first + stride, ... ; false at the first failure, which is then reported.
  bool play(std::uint64_t first, std::uint64_t stride, std::uint64_t count) {
    next_seed_ = first;
    stride_ = stride;
    to_start_ = count;
    while (to_start_ > 0 || playing_ > 0) {
      ++round_;
      if (upgrades_ != 0 && round_ % kRoundsPerUpgrade == 0)
        plane_.replace(upgrades_ + static_cast<unsigned>(round_ / kRoundsPerUpgrade / 2 % 2));
      if (!connecting_ && to_start_ > 0) start_one();
      if (!take_events()) return false;
      for (std::size_t slot = 0; slot < slots_.size(); ++slot) {
        if (!step(slot)) return false;
      }
    }
    return true;
  }

  const Totals& totals() const { return totals_; }

 private:
  static constexpr std::uint64_t kListener = ~std::uint64_t{0};
  struct Slot {
    std::unique_ptr<Session> session;
    bool active = false;  // an edge came, or it had more to do
  };

  void start_one() {
    std::size_t slot = 0;
    while (slot < slots_.size() && slots_[slot].session) ++slot;
    if (slot == slots_.size()) return;
    Script script = make_script(next_seed_);
    next_seed_ += stride_;
    --to_start_;
    Peer client = plane_.client(script.stream[kFromBackend].receive_buffer);
    slots_[slot].session = std::make_unique<Session>(std::move(script), std::move(client));
    connecting_ = true;
    connecting_slot_ = slot;
    ++playing_;
    watch(slot, kFromClient);
  }

  void watch(std::size_t slot, unsigned side) {
    epoll_event event{.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data = {.u64 = slot << 1 | side}};
    EXPECT_EQ(::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, slots_[slot].session->fd(side), &event), 0);
    slots_[slot].active = true;
  }

  // Waits where nobody has anything to do. When nothing moves any more, those who wait for that go on; when
  // nothing moves and nobody waits for it, a session hangs.
  bool take_events() {
    bool active = false;
    bool deep = false;
    for (const Slot& slot : slots_) {
      active = active || (slot.session && slot.active);
      deep = deep || (slot.session && slot.session->stalls_deeply());
    }
    epoll_event events[128];
    const int patience = active ? 0 : deep ? kQuietMilliseconds : static_cast<int>(kPatience.count());
    const int count = ::epoll_wait(epoll_.get(), events, 128, patience);
    for (int i = 0; i < count; ++i) {
      if (!take_event(events[i])) return false;
    }
    if (count > 0 || active) return true;
    if (!deep) return hangs();
    for (Slot& slot : slots_) {
      if (!slot.session) continue;
      slot.session->on_quiet();
      slot.active = true;
    }
    return true;
  }

  bool take_event(const epoll_event& event) {
    if (event.data.u64 == kListener) {
      if (!connecting_) {
        ADD_FAILURE() << "a backend connection that no client asked for";
        return false;
      }
      Slot& slot = slots_[connecting_slot_];
      slot.session->accepted(backend_.accept());
      connecting_ = false;
      watch(connecting_slot_, kFromBackend);
      return true;
    }
    Slot& slot = slots_[event.data.u64 >> 1];
    if (!slot.session) return true;
    slot.session->on_edge(event.data.u64 & 1, event.events);
    slot.active = true;
    return true;
  }

  bool step(std::size_t number) {
    Slot& slot = slots_[number];
    if (!slot.session || (!slot.active && !slot.session->stalls_deeply())) return true;
    Session& session = *slot.session;
    slot.active = session.step(round_);
    if (!session.failure().empty()) {
      report(session, session.failure());
      return false;
    }
    if (!session.done()) return true;
    totals_.messages += session.messages_verified();
    totals_.large += session.large_verified();
    totals_.broken += session.script().ending != Ending::kOrderly ? 1 : 0;
    for (const unsigned side : {kFromClient, kFromBackend}) {
      totals_.written[side] += session.written(side);
      totals_.received[side] += session.received(side);
    }
    slot.session.reset();
    --playing_;
    return true;
  }

  bool hangs() {
    for (const Slot& slot : slots_) {
      if (slot.session) report(*slot.session, "nothing moves any more");
    }
    return false;
  }

  static void report(const Session& session, const std::string& what) {
    ADD_FAILURE() << what << "\n"
                  << session.describe() << "replay with RELAYD_SEED=" << session.script().seed;
  }

  const unsigned upgrades_;
  Plane& plane_;
  Listening& backend_;
  Descriptor epoll_;
  std::vector<Slot> slots_;
  std::uint64_t next_seed_ = 0;
  std::uint64_t stride_ = 1;
  std::uint64_t to_start_ = 0;
  std::size_t playing_ = 0;
  bool connecting_ = false;  // the client of connecting_slot_ has no backend connection yet
  std::size_t connecting_slot_ = 0;
  std::uint64_t round_ = 0;
  Totals totals_;
};

struct Setting {
  bool unix_front;
  bool unix_back;
  unsigned threads;
  bool upgrades = false;  // of relayd, now and then
};

std::string setting_name(const ::testing::TestParamInfo<Setting>& tested) {
  return std::string(tested.param.unix_front ? "unix" : "tcp") + "_to_" +
         (tested.param.unix_back ? "unix" : "tcp") + "_" + std::to_string(tested.param.threads) +
         (tested.param.upgrades ? "_upgraded" : "");
}

class ExchangeTest : public ::testing::TestWithParam<Setting> {
 protected:
  // A plane of its own for some hundred sessions; afterwards nothing is left of them.
  bool play(std::uint64_t first, std::uint64_t stride, std::uint64_t count, Totals& totals) {
    { const Plane any({}); }  // what libuv opens once and keeps
    const std::size_t descriptors = open_descriptors();
    {
      SocketPath path;
      Plane plane({.threads = GetParam().threads,
                   .service = {},
                   .listen = GetParam().unix_front ? path.address("front") : SocketAddress::loopback(0)});
      Listening backend(GetParam().unix_back ? path.address("back") : SocketAddress::loopback(0));
      plane.route(backend.address());
      Stage stage(plane, backend, GetParam().upgrades ? GetParam().threads : 0);
      if (!stage.play(first, stride, count)) return false;
      EXPECT_TRUE(plane.wait([&] { return plane.counts().active == 0; })) << plane.counts().active;
      check_counts(plane.counts(), stage.totals(), count);
      add(totals, stage.totals());
    }
    EXPECT_EQ(open_descriptors(), descriptors);
    return !HasFailure();
  }

 private:
  // What a peer read was counted, and nothing that was not written.
  static void check_counts(const ServiceCounts& counts, const Totals& totals, std::uint64_t sessions) {
    EXPECT_EQ(counts.accepted, sessions);
    EXPECT_GE(counts.bytes_in, totals.received[kFromBackend]);
    EXPECT_LE(counts.bytes_in, totals.written[kFromClient]);
    EXPECT_GE(counts.bytes_out, totals.received[kFromClient]);
    EXPECT_LE(counts.bytes_out, totals.written[kFromBackend]);
  }

  static void add(Totals& totals, const Totals& more) {
    totals.messages += more.messages;
    totals.large += more.large;
    totals.broken += more.broken;
    for (const unsigned side : {kFromClient, kFromBackend}) totals.received[side] += more.received[side];
  }
};

INSTANTIATE_TEST_SUITE_P(Each, ExchangeTest,
                         ::testing::Values(Setting{false, false, 1}, Setting{false, false, 3},
                                           Setting{false, true, 1}, Setting{false, true, 3},
                                           Setting{true, false, 1}, Setting{true, false, 3},
                                           Setting{true, true, 1}, Setting{true, true, 3},
                                           Setting{false, false, 1, true}, Setting{false, false, 3, true},
                                           Setting{true, true, 2, true}),
                         setting_name);

TEST_P(ExchangeTest, WhatIsSentArrivesAsItWasSent) {
  Totals totals;
  if (const char* seed = std::getenv("RELAYD_SEED")) {
    play(std::strtoull(seed, nullptr, 10), 0, kSessionsPerPlane, totals);
    return;
  }
  const std::uint64_t wanted = kExchangesPerSetting * (std::getenv("RELAYD_SOAK") != nullptr ? 10 : 1);
  // Each setting has scripts of its own.
  std::uint64_t seed = 1 + 10'000'000 * (GetParam().threads + (GetParam().unix_front ? 10U : 0U) +
                                         (GetParam().unix_back ? 20U : 0U));
  while (totals.messages < wanted) {
    ASSERT_TRUE(play(seed, 1, kSessionsPerPlane, totals));
    seed += kSessionsPerPlane;
  }
  EXPECT_GT(totals.large, wanted / 50);
  EXPECT_GT(totals.broken, wanted / 100);
  RecordProperty("exchanges", std::to_string(totals.messages));
  RecordProperty("large", std::to_string(totals.large));
  RecordProperty("sessions_broken_off", std::to_string(totals.broken));
  RecordProperty("bytes", std::to_string(totals.received[kFromClient] + totals.received[kFromBackend]));
}

}  // namespace
}  // namespace relayd::net::test
