#include "tests/net/line.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>

#include "tests/net/script.h"

namespace relayd::net::test {
namespace {

constexpr std::size_t kPiece = 256 * kKiB;
// So long (ms) nothing has to move to be taken for full; a pause by chance leaves it less full, no more.
constexpr int kStill = 100;

}  // namespace

Line::Line(Peer& from, Peer& to, std::uint64_t noise) : from_(from), to_(to), noise_(noise) {
  EXPECT_TRUE(set_nonblocking(from.fd(), true));
  EXPECT_TRUE(set_nonblocking(to.fd(), true));
}

std::size_t Line::write(std::size_t most) {
  std::size_t taken = 0;
  while (taken < most) {
    const std::string_view bytes = noise_at(noise_ + written_, std::min(most - taken, kPiece));
    const ssize_t sent = ::send(from_.fd(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent < 0) {
      EXPECT_EQ(errno, EAGAIN) << errno_text(errno);
      break;
    }
    taken += static_cast<std::size_t>(sent);
    written_ += static_cast<std::uint64_t>(sent);
  }
  return taken;
}

std::size_t Line::read(std::size_t most) {
  static char buffer[kPiece];
  std::size_t got = 0;
  while (got < most && !ended_) {
    const ssize_t size = ::recv(to_.fd(), buffer, std::min(most - got, kPiece), 0);
    if (size < 0 && errno == EAGAIN) break;
    EXPECT_GE(size, 0) << errno_text(errno);
    if (size <= 0) {
      ended_ = true;
      break;
    }
    got += static_cast<std::size_t>(size);
    for (std::string_view left(buffer, static_cast<std::size_t>(size)); !left.empty();) {
      const std::string_view expected = noise_at(noise_ + received_, left.size());
      exact_ = exact_ && left.substr(0, expected.size()) == expected;
      left.remove_prefix(expected.size());
      received_ += expected.size();
    }
  }
  return got;
}

void Line::fill() {
  pollfd writer{.fd = from_.fd(), .events = POLLOUT, .revents = 0};
  while (::poll(&writer, 1, kStill) > 0) {
    write(kMiB);
    ASSERT_LT(in_flight(), 64 * kMiB) << "the writer was never made to wait";
  }
}

void Line::take(std::uint64_t size) {
  const std::uint64_t until = received_ + size;
  while (received_ < until && !ended_) {
    if (read(until - received_) == 0 && !ended_ && !await_bytes()) return;
  }
  EXPECT_EQ(received_, until) << "an early end";
}

void Line::take_the_end() {
  while (!ended_) {
    if (read(kMiB) == 0 && !ended_ && !await_bytes()) return;
  }
}

void Line::pass(std::size_t size) {
  EXPECT_EQ(write(size), size);
  take(size);
}

bool Line::await_bytes() {
  pollfd reader{.fd = to_.fd(), .events = POLLIN, .revents = 0};
  const bool some = ::poll(&reader, 1, static_cast<int>(kPatience.count())) > 0;
  EXPECT_TRUE(some) << "nothing arrives after " << received_ << " of " << written_ << " bytes";
  return some;
}

}  // namespace relayd::net::test
