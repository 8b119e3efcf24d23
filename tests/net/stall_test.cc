// Readers that stop and go on, with everything between them and their writer full: the other direction does
// not notice, and what was on its way arrives, with its end behind it.
#include <poll.h>

#include <algorithm>
#include <optional>
#include <string>

#include "tests/net/line.h"
#include "tests/net/support.h"

namespace relayd::net::test {
namespace {

enum class Kind { kTcp, kUnix };

struct Setting {
  Kind kind;
  bool client_stalls;
};

class StalledReaderTest : public ::testing::TestWithParam<Setting> {
 protected:
  StalledReaderTest()
      : plane_({.threads = 1, .service = {}, .listen = place("front")}), backend_(place("back")) {
    plane_.route(backend_.address());
    client_.emplace(plane_.client());
    server_.emplace(backend_.accept());
    Peer& reader = GetParam().client_stalls ? *client_ : *server_;
    Peer& writer = GetParam().client_stalls ? *server_ : *client_;
    stalled_.emplace(writer, reader, 1);
    other_.emplace(reader, writer, 500'000);
  }
  SocketAddress place(const std::string& name) {
    return GetParam().kind == Kind::kTcp ? SocketAddress::loopback(0) : path_.address(name);
  }
  Peer& writer() { return GetParam().client_stalls ? *server_ : *client_; }
  Peer& reader() { return GetParam().client_stalls ? *client_ : *server_; }

  // The other direction lives, with little and with much.
  void other_direction_flows() {
    for (int i = 0; i < 5; ++i) other_->pass(1 + static_cast<std::size_t>(i) * 100);
    const std::uint64_t until = other_->written() + 3 * kMiB;
    while (other_->written() < until) {
      const std::size_t taken = other_->write(100'000);
      if (taken == 0) other_->take(std::min<std::uint64_t>(other_->in_flight(), 64 * kKiB));
      if (HasFailure()) return;
    }
    other_->take(other_->in_flight());
  }

  void end_both() {
    writer().finish();
    other_direction_flows();  // half-closed, and the FIN behind what nobody reads
    stalled_->take(stalled_->in_flight());
    stalled_->take_the_end();
    other_direction_flows();
    reader().finish();
    other_->take_the_end();
    EXPECT_TRUE(stalled_->exact());
    EXPECT_TRUE(other_->exact());
    EXPECT_TRUE(plane_.wait([&] { return plane_.counts().active == 0; }));
    const ServiceCounts counts = plane_.counts();
    EXPECT_EQ(counts.bytes_in + counts.bytes_out, stalled_->written() + other_->written());
  }

  SocketPath path_;
  Plane plane_;
  Listening backend_;
  std::optional<Peer> client_;
  std::optional<Peer> server_;
  std::optional<Line> stalled_;
  std::optional<Line> other_;
};

INSTANTIATE_TEST_SUITE_P(Each, StalledReaderTest,
                         ::testing::Values(Setting{Kind::kTcp, true}, Setting{Kind::kTcp, false},
                                           Setting{Kind::kUnix, true}, Setting{Kind::kUnix, false}),
                         [](const auto& tested) {
                           return std::string(tested.param.kind == Kind::kTcp ? "tcp_" : "unix_") +
                                  (tested.param.client_stalls ? "client" : "backend");
                         });

TEST_P(StalledReaderTest, FromTheFirstByte) {
  stalled_->fill();
  other_direction_flows();
  end_both();
}

TEST_P(StalledReaderTest, AfterSmallMessages) {
  for (std::size_t size = 1; size < 4000; size += 37) stalled_->pass(size);
  stalled_->fill();
  other_direction_flows();
  end_both();
}

TEST_P(StalledReaderTest, InTheMiddleOfABigStream) {
  for (int i = 0; i < 200; ++i) {
    stalled_->write(kMiB);
    stalled_->read(kMiB);
  }
  stalled_->fill();
  other_direction_flows();
  end_both();
}

TEST_P(StalledReaderTest, AfterABigStreamBecameSmallMessages) {
  for (int i = 0; i < 100; ++i) {
    stalled_->write(kMiB);
    stalled_->read(kMiB);
  }
  stalled_->take(stalled_->in_flight());
  for (std::size_t size = 1; size < 2000; size += 37) stalled_->pass(size);
  stalled_->fill();
  other_direction_flows();
  end_both();
}

// Full again and again, each time after another piece was let through.
TEST_P(StalledReaderTest, ResumedForAPieceOfEachSize) {
  for (const std::size_t piece : {std::size_t{1}, std::size_t{1000}, 64 * kKiB - 1, 64 * kKiB, 64 * kKiB + 1,
                                  200 * kKiB, 256 * kKiB, kMiB, 3 * kMiB}) {
    stalled_->fill();
    ASSERT_FALSE(HasFatalFailure());
    stalled_->take(std::min<std::uint64_t>(piece, stalled_->in_flight()));
    other_->pass(100);
  }
  end_both();
}

// Everything that was on its way is read, so that nothing is left in the plane; then it is filled again.
TEST_P(StalledReaderTest, DrainedAndFilledAgain) {
  for (int i = 0; i < 5; ++i) {
    stalled_->fill();
    ASSERT_FALSE(HasFatalFailure());
    stalled_->take(stalled_->in_flight());
    other_->pass(70'000);
    stalled_->pass(10);
  }
  end_both();
}

TEST_P(StalledReaderTest, ThatLeavesFreesItsWriter) {
  stalled_->fill();
  reader().reset();
  pollfd entry{.fd = writer().fd(), .events = POLLIN | POLLRDHUP, .revents = 0};
  EXPECT_EQ(::poll(&entry, 1, static_cast<int>(kPatience.count())), 1);
  writer().close();
  EXPECT_TRUE(plane_.wait([&] { return plane_.counts().active == 0; }));
}

}  // namespace
}  // namespace relayd::net::test
