// What many who stop, and one who never does, may cost: memory and descriptors stay bounded and come back;
// others get their turn.
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <string>
#include <thread>
#include <vector>

#include "tests/net/line.h"

namespace relayd::net::test {
namespace {

#ifdef __SANITIZE_THREAD__
constexpr std::size_t kShadow = 6;       // the sanitizer's own memory grows with what is written to
constexpr int kDescriptorsLookedAt = 0;  // it takes a look at the workers' descriptors for a race
#else
constexpr std::size_t kShadow = 1;
constexpr int kDescriptorsLookedAt = 8192;
#endif

// Bytes of this process that no file stands behind (proc_pid_smaps(5)). Allocates nothing itself: under ASan
// what is freed stays for a while.
std::size_t anonymous_memory() {
  char text[4096] = "";
  const Descriptor rollup(::open("/proc/self/smaps_rollup", O_RDONLY | O_CLOEXEC));
  EXPECT_GT(::read(rollup.get(), text, sizeof text - 1), 0);
  const char* line = std::strstr(text, "Anonymous:");
  EXPECT_NE(line, nullptr);
  return line == nullptr ? 0 : std::strtoull(line + std::strlen("Anonymous:"), nullptr, 10) * kKiB;
}

// Bytes that lie in pipes of this process.
std::size_t piped_memory() {
  std::size_t bytes = 0;
  for (int fd = 0; fd < kDescriptorsLookedAt; ++fd) {
    struct stat status {};
    int queued = 0;
    if (::fstat(fd, &status) != 0 || !S_ISFIFO(status.st_mode)) continue;
    if ((::fcntl(fd, F_GETFL) & O_ACCMODE) != O_RDONLY) continue;
    if (::ioctl(fd, FIONREAD, &queued) == 0) bytes += static_cast<std::size_t>(queued);
  }
  return bytes;
}

std::size_t memory_used() { return anonymous_memory() + piped_memory(); }

// The kernel's part is not under test, and a thousand windows of its choice would use up tcp_mem (tcp(7)).
constexpr int kSmallBuffer = 32 * 1024;

void set_option(int fd, int level, int name, int value) {
  EXPECT_EQ(::setsockopt(fd, level, name, &value, sizeof value), 0) << errno_text(errno);
}

// What its connections inherit. With segments as large as the loopback's, small windows would wait for
// timers.
void make_small(int listener, bool is_unix) {
  set_option(listener, SOL_SOCKET, SO_SNDBUF, kSmallBuffer);
  if (!is_unix) set_option(listener, IPPROTO_TCP, TCP_MAXSEG, 1400);
}

// The clients that stop, each with a download of its own.
class Downloads {
 public:
  Downloads(Plane& plane, Listening& backend, std::size_t count) {
    for (std::size_t i = 0; i < count; ++i) {
      clients_.push_back(plane.client(kSmallBuffer));
      clients_.back().send("?");
      servers_.push_back(backend.accept());
      EXPECT_EQ(servers_.back().receive(1), "?");
      set_option(servers_.back().fd(), SOL_SOCKET, SO_SNDBUF, kSmallBuffer);
      lines_.emplace_back(servers_.back(), clients_.back(), i * 1000);
    }
  }

  // Offers each client so much, or until its writer is made to wait.
  void fill(std::uint64_t offer, std::size_t most_memory) {
    std::vector<pollfd> writers;
    for (const Peer& server : servers_)
      writers.push_back({.fd = server.fd(), .events = POLLOUT, .revents = 0});
    for (unsigned pass = 0; ::poll(writers.data(), writers.size(), 200) > 0; ++pass) {
      for (std::size_t i = 0; i < lines_.size(); ++i) {
        if (writers[i].revents == 0) continue;
        lines_[i].write(std::min(64 * kKiB, offer - lines_[i].in_flight()));
        if (lines_[i].in_flight() >= offer) writers[i].fd = -1;
      }
      if (pass % 16 == 0) {
        ASSERT_LT(anonymous_memory(), most_memory);
      }
    }
    EXPECT_LT(memory_used(), most_memory);
  }

  void flow(std::uint64_t size) {
    for (Line& line : lines_) {
      for (const std::uint64_t until = line.received() + size; line.received() < until;) {
        line.write(64 * kKiB);
        line.take(std::min(line.in_flight(), until - line.received()));
        if (::testing::Test::HasFailure()) return;
      }
    }
  }

  void drain() {
    for (Line& line : lines_) line.take(line.in_flight());
  }
  bool exact() const { return std::ranges::all_of(lines_, &Line::exact); }
  std::deque<Peer>& clients() { return clients_; }
  std::deque<Peer>& servers() { return servers_; }

 private:
  std::deque<Peer> clients_;
  std::deque<Peer> servers_;
  std::deque<Line> lines_;
};

struct Sockets {
  bool unix_front;
  bool unix_back;
};

class PressureTest : public ::testing::TestWithParam<Sockets> {
 protected:
  static constexpr std::size_t kClients = 1000;
  // A buffer of 64 KiB a client, and half as much for all the rest.
  static constexpr std::size_t kMostMemory = kClients * 96 * kKiB * kShadow;
  static constexpr std::size_t kLeftMemory = 12 * kMiB * kShadow;
  static constexpr std::size_t kMostPipes = 128;  // in pools, whatever the number of clients

  static bool enough_descriptors() {
    rlimit limit{};
    ::getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = std::max<rlim_t>(limit.rlim_cur, std::min<rlim_t>(limit.rlim_max, 8192));
    ::setrlimit(RLIMIT_NOFILE, &limit);
    return limit.rlim_cur >= 4 * kClients + 500;
  }
};

INSTANTIATE_TEST_SUITE_P(Each, PressureTest,
                         ::testing::Values(Sockets{false, false}, Sockets{false, true}, Sockets{true, true}),
                         [](const auto& tested) {
                           return std::string(tested.param.unix_front ? "unix" : "tcp") + "_to_" +
                                  (tested.param.unix_back ? "unix" : "tcp");
                         });

TEST_P(PressureTest, AThousandClientsThatStopReadingCostOneBufferEach) {
  if (!enough_descriptors()) GTEST_SKIP() << "needs 4,500 open files";
  SocketPath path;
  const auto place = [&](bool is_unix, const char* name) {
    return is_unix ? path.address(name) : SocketAddress::loopback(0);
  };
  Plane plane({.threads = 1,
               .service = {},
               .max_descriptors = 4000,
               .listen = place(GetParam().unix_front, "front")});
  make_small(plane.listener.socket.get(), GetParam().unix_front);
  Listening backend(place(GetParam().unix_back, "back"));
  make_small(backend.fd(), GetParam().unix_back);
  plane.route(backend.address());
  { Downloads warm(plane, backend, 20); }
  ASSERT_TRUE(plane.wait([&] { return plane.counts().active == 0; }));

  // TCP's own buffers take of it what they like: enough is left to break the bound without one.
  const std::uint64_t offer = GetParam().unix_back ? 4 * kMiB : 400 * kKiB;
  const std::size_t descriptors = open_descriptors();
  {
    Downloads downloads(plane, backend, kClients);
    const std::size_t idle = memory_used();
    downloads.fill(offer, idle + kMostMemory);
    ASSERT_FALSE(HasFatalFailure());
    EXPECT_LE(open_descriptors(), descriptors + 4 * kClients + 2 * kMostPipes);
    downloads.flow(400 * kKiB);  // they go on, and stop again in the middle
    downloads.fill(offer, idle + kMostMemory);
    ASSERT_FALSE(HasFatalFailure());
    EXPECT_LE(open_descriptors(), descriptors + 4 * kClients + 2 * kMostPipes);
    downloads.drain();
    EXPECT_TRUE(downloads.exact());
    // Idle again, and as cheap as before.
    EXPECT_TRUE(plane.wait([&] { return memory_used() < idle + kLeftMemory; })) << memory_used() - idle;
    EXPECT_LE(open_descriptors(), descriptors + 4 * kClients + 2 * kMostPipes);

    downloads.fill(offer, idle + kMostMemory);
    for (std::size_t i = 0; i < kClients; ++i) {
      if (i % 3 == 0) downloads.clients()[i].reset();
      if (i % 3 == 1) downloads.clients()[i].close();
      if (i % 3 == 2) downloads.servers()[i].reset();
    }
    // Those who lost their peer are told; the clients read nothing more.
    for (std::size_t i = 0; i < kClients; ++i) {
      Peer& left = i % 3 == 2 ? downloads.clients()[i] : downloads.servers()[i];
      left.close();
    }
    EXPECT_TRUE(plane.wait([&] { return plane.counts().active == 0; })) << plane.counts().active;
    EXPECT_TRUE(plane.wait([&] { return memory_used() < idle + kLeftMemory; })) << memory_used() - idle;
  }
  EXPECT_LE(open_descriptors(), descriptors + 2 * kMostPipes);
  plane.data.reset();
  EXPECT_LE(open_descriptors(), descriptors);
}

// A client and a backend that answer each other.
class PingPong {
 public:
  PingPong(Plane& plane, Listening& backend, std::uint64_t noise)
      : client_(plane.client()),
        server_(backend.accept()),
        ask_(client_, server_, noise),
        answer_(server_, client_, noise + 7777) {}

  unsigned trips() const { return static_cast<unsigned>(answer_.received() / kSize); }
  bool exact() const { return ask_.exact() && answer_.exact(); }
  void watch(std::vector<pollfd>& entries) const {
    entries.push_back({.fd = client_.fd(), .events = POLLIN, .revents = 0});
    entries.push_back({.fd = server_.fd(), .events = POLLIN, .revents = 0});
  }
  void play() {
    answer_.read(kSize);
    if (ask_.in_flight() == 0 && answer_.received() == ask_.written()) ask_.write(kSize);
    ask_.read(kSize);
    if (answer_.written() < ask_.received()) answer_.write(kSize);
  }

 private:
  static constexpr std::size_t kSize = 128;
  Peer client_;
  Peer server_;
  Line ask_;
  Line answer_;
};

// As many bytes as the plane takes, from one end to the other, in threads of its own; nothing is compared.
class Flood {
 public:
  Flood(Peer& from, Peer& to) {
    writer_ = std::jthread([&from] {
      const std::string block = pattern(kMiB, 1);
      while (from.try_send(block)) {
      }
    });
    reader_ = std::jthread([this, &to] {
      for (;;) {
        const ssize_t got = ::recv(to.fd(), nullptr, kMiB, MSG_TRUNC);  // TCP: thrown away (tcp(7))
        if (got <= 0) return;
        moved_ += static_cast<std::uint64_t>(got);
      }
    });
  }
  std::uint64_t moved() const { return moved_; }

 private:
  std::atomic<std::uint64_t> moved_{0};
  std::jthread writer_;
  std::jthread reader_;
};

class FairnessTest : public ::testing::TestWithParam<bool> {};  // from the client?
INSTANTIATE_TEST_SUITE_P(Each, FairnessTest, ::testing::Bool(),
                         [](const auto& tested) { return tested.param ? "upload" : "download"; });

TEST_P(FairnessTest, OneBulkStreamLeavesFiftyOthersTheirTurn) {
  constexpr unsigned kTrips = 40;
  constexpr std::uint64_t kBulkATrip = 64 * kMiB;  // a fair one lets through a few
  constexpr unsigned kCredit = 16;                 // trips: the test itself may get its turn late
  Plane plane({.threads = 1, .service = {}});
  Listening backend;
  plane.route(backend.address());
  std::deque<PingPong> others;
  for (std::uint64_t i = 0; i < 50; ++i) others.emplace_back(plane, backend, i * 10'000);
  Peer client = plane.client();
  Peer server = backend.accept();
  Flood flood(GetParam() ? client : server, GetParam() ? server : client);
  unsigned trips = 0;
  const TimePoint until = monotonic_now() + 3 * kPatience;
  std::vector<pollfd> entries;
  for (const PingPong& other : others) other.watch(entries);
  while (trips < kTrips || flood.moved() < 64 * kMiB) {
    ::poll(entries.data(), entries.size(), 10);
    for (PingPong& other : others) other.play();
    trips = std::ranges::min_element(others, {}, &PingPong::trips)->trips();
    if (flood.moved() > kBulkATrip * (trips + kCredit) || monotonic_now() > until) break;
  }
  EXPECT_GE(trips, kTrips) << "while the bulk moved " << flood.moved() << " bytes";
  EXPECT_GE(flood.moved(), 64 * kMiB);
  EXPECT_TRUE(std::ranges::all_of(others, &PingPong::exact));
  ::shutdown(client.fd(), SHUT_RDWR);
  ::shutdown(server.fd(), SHUT_RDWR);
}

}  // namespace
}  // namespace relayd::net::test
