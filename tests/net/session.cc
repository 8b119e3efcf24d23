#include "tests/net/session.h"

#include <linux/sockios.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <sstream>

namespace relayd::net::test {
namespace {

constexpr std::size_t kLarge = 64 * 1024;
constexpr std::size_t kMostRead = 256 * 1024;
constexpr int kMovesInAStep = 32;
constexpr std::uint64_t kDeepStall = 64;  // rounds

void set_buffer(int fd, int option, int size) {
  if (size > 0) ::setsockopt(fd, SOL_SOCKET, option, &size, sizeof size);
}

bool is_unix(int fd) {
  const auto address = local_address(fd);
  return address && address->is_unix();
}

// True where all that was written is in the hands of the plane's kernel side: a Unix socket writes into its
// peer's queue; TCP has been acknowledged.
bool all_handed_over(int fd) {
  int queued = 0;
  return is_unix(fd) || (::ioctl(fd, SIOCOUTQ, &queued) == 0 && queued == 0);
}

const char* name_of(unsigned side) { return side == kFromClient ? "client" : "backend"; }

}  // namespace

Session::Session(Script script, Peer client) : script_(std::move(script)) {
  EXPECT_TRUE(set_nonblocking(client.fd(), true));
  set_buffer(client.fd(), SO_SNDBUF, script_.stream[kFromClient].send_buffer);
  side_[kFromClient].peer = std::move(client);
}

void Session::accepted(Peer backend) {
  EXPECT_TRUE(set_nonblocking(backend.fd(), true));
  set_buffer(backend.fd(), SO_SNDBUF, script_.stream[kFromBackend].send_buffer);
  set_buffer(backend.fd(), SO_RCVBUF, script_.stream[kFromClient].receive_buffer);
  side_[kFromBackend].peer = std::move(backend);
}

void Session::on_edge(unsigned side, std::uint32_t events) {
  if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) side_[side].may_read = true;
  if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) side_[side].may_write = true;
}

bool Session::step(std::uint64_t round) {
  for (int i = 0; i < kMovesInAStep; ++i) {
    bool moved = false;
    for (const unsigned side : {kFromClient, kFromBackend}) {
      // Between any two moves: a side breaks off where its script says, not a piece later.
      for (const auto& move : {&Session::write, &Session::finish}) {
        if ((this->*move)(side)) moved = true;
        if (close_or_break(side)) moved = true;
      }
      if (read(side, round)) moved = true;
      if (close_or_break(side)) moved = true;
    }
    if (!failure_.empty() || done()) return false;
    if (!moved) {
      quiet_ = false;
      return false;
    }
  }
  return true;
}

bool Session::write(unsigned side) {
  Side& self = side_[side];
  const Stream& stream = script_.stream[side];
  if (!self.peer || self.closed || !self.may_write || self.cannot_write) return false;
  if (self.message == stream.messages.size()) return false;
  const Message& message = stream.messages[self.message];
  const std::uint64_t begin = self.message == 0 ? 0 : stream.messages[self.message - 1].end;
  if (self.written == begin && !gate_open(side, message.gate)) return false;
  std::uint64_t most = std::min<std::uint64_t>(message.chunk, message.end - self.written);
  if (script_.ending != Ending::kOrderly && side == script_.breaker &&
      self.written < script_.breaks_written) {
    most = std::min(most, script_.breaks_written - self.written);
  }
  const std::string_view bytes = noise_at(stream.noise + self.written, most);
  const ssize_t sent = ::send(self.peer->fd(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
  if (sent < 0) {
    self.may_write = false;
    if (errno == EAGAIN) return true;  // a reader may have stood still for just that
    if (!broken_) fail(side, "write failed: " + errno_text(errno));
    self.cannot_write = true;
    return true;
  }
  self.written += static_cast<std::uint64_t>(sent);
  if (self.written == message.end) ++self.message;
  return true;
}

bool Session::finish(unsigned side) {
  Side& self = side_[side];
  const Stream& stream = script_.stream[side];
  if (!self.peer || self.closed || self.fin_sent || self.cannot_write) return false;
  if (self.written < stream.total() || !gate_open(side, stream.end_gate)) return false;
  self.peer->finish();
  self.fin_sent = true;
  return true;
}

bool Session::gate_open(unsigned side, Gate gate) const {
  const Side& self = side_[side];
  const Side& other = side_[1 - side];
  if (broken_) return true;
  switch (gate) {
    case Gate::kNone:
      return true;
    case Gate::kDrained:
      return other.received == self.written;
    case Gate::kAnswered:
      return self.received >= answered_position(side);
    case Gate::kPeerEnded:
      return self.ended;
  }
  return true;
}

// The client speaks first: its message i follows the backend's i - 1, the backend's i follows the client's i.
// What the peer keeps until it has read a FIN cannot be waited for.
std::uint64_t Session::answered_position(unsigned side) const {
  const auto& theirs = script_.stream[1 - side].messages;
  const std::size_t wanted = side_[side].message + (side == kFromBackend ? 1 : 0);
  std::uint64_t position = 0;
  for (std::size_t i = 0; i < std::min(wanted, theirs.size()); ++i) {
    if (theirs[i].gate == Gate::kPeerEnded) break;
    position = theirs[i].end;
  }
  return position;
}

// The writer of the stream that `side` reads can do nothing now.
bool Session::writer_waits(unsigned side) const {
  const Side& writer = side_[1 - side];
  if (!writer.peer || writer.closed || !writer.may_write || writer.cannot_write) return true;
  const Stream& stream = script_.stream[1 - side];
  if (writer.message == stream.messages.size()) return true;
  const std::uint64_t begin = writer.message == 0 ? 0 : stream.messages[writer.message - 1].end;
  return writer.written == begin && !gate_open(1 - side, stream.messages[writer.message].gate);
}

bool Session::stands_still(unsigned side, std::uint64_t round) {
  Side& self = side_[side];
  const Stream& stream = script_.stream[1 - side];
  if (!self.stalled) {
    if (broken_ || self.stall == stream.stalls.size() || self.received < stream.stalls[self.stall].at) {
      return false;
    }
    self.stalled = true;
    self.stalled_in = round;
  }
  const bool until =
      stream.stalls[self.stall].deep ? quiet_ || round - self.stalled_in >= kDeepStall : writer_waits(side);
  if (!until) return true;
  self.stalled = false;
  ++self.stall;
  return false;
}

bool Session::stalls_deeply() const {
  return std::ranges::any_of(side_, [this](const Side& side) {
    const Stream& stream = script_.stream[&side == &side_[kFromClient] ? kFromBackend : kFromClient];
    return side.stalled && !side.closed && stream.stalls[side.stall].deep;
  });
}

bool Session::read(unsigned side, std::uint64_t round) {
  static char buffer[kMostRead];
  Side& self = side_[side];
  const Stream& stream = script_.stream[1 - side];
  if (!self.peer || self.closed || self.ended || !self.may_read || stands_still(side, round)) return false;
  std::uint64_t most = std::min(stream.read_chunk, sizeof buffer);
  if (self.stall < stream.stalls.size() && stream.stalls[self.stall].at > self.received) {
    most = std::min(most, stream.stalls[self.stall].at - self.received);
  }
  if (script_.ending != Ending::kOrderly && side == script_.breaker && self.received < script_.breaks_read) {
    most = std::min(most, script_.breaks_read - self.received);
  }
  const ssize_t got = ::recv(self.peer->fd(), buffer, most, 0);
  if (got > 0) {
    verify(side, {buffer, static_cast<std::size_t>(got)});
    return true;
  }
  if (got < 0 && errno == EAGAIN) {
    self.may_read = false;
    return false;
  }
  end_of_stream(side, got == 0 ? 0 : errno);
  return true;
}

void Session::verify(unsigned side, std::string_view bytes) {
  Side& self = side_[side];
  const Stream& stream = script_.stream[1 - side];
  if (self.received + bytes.size() > side_[1 - side].written) {
    fail(side, "reads more than was written");
    return;
  }
  while (!bytes.empty()) {
    const std::string_view expected = noise_at(stream.noise + self.received, bytes.size());
    if (bytes.substr(0, expected.size()) != expected) {
      const auto differs = std::ranges::mismatch(bytes, expected).in1 - bytes.begin();
      fail(side,
           "reads a wrong byte at " + std::to_string(self.received + static_cast<std::uint64_t>(differs)));
      return;
    }
    bytes.remove_prefix(expected.size());
    self.received += expected.size();
  }
  while (self.verified < stream.messages.size() && self.received >= stream.messages[self.verified].end) {
    const std::uint64_t begin = self.verified == 0 ? 0 : stream.messages[self.verified - 1].end;
    if (stream.messages[self.verified].end - begin >= kLarge - 2) ++large_verified_;
    ++messages_verified_;
    ++self.verified;
  }
}

void Session::end_of_stream(unsigned side, int error) {
  Side& self = side_[side];
  self.ended = true;
  if (!broken_) {
    if (error != 0) fail(side, "reads an error: " + errno_text(error));
    if (!side_[1 - side].fin_sent) fail(side, "reads an end that nobody sent");
    if (self.received != script_.stream[1 - side].total()) fail(side, "reads an early end");
    return;
  }
  if (error != 0 && error != ECONNRESET) fail(side, "reads an error that is no reset: " + errno_text(error));
  if (self.received < guaranteed_) {
    fail(side, "reads an end (error " + std::to_string(error) + ") before " + std::to_string(guaranteed_) +
                   " bytes that were sent before the other side went");
  }
  if (!script_.survivor_writes_on) self.cannot_write = true;
}

// A side is through when it has sent and read all it will; or when its script breaks the connection off.
bool Session::close_or_break(unsigned side) {
  Side& self = side_[side];
  if (!self.peer || self.closed || !failure_.empty()) return false;
  if (script_.ending != Ending::kOrderly && side == script_.breaker &&
      self.written >= script_.breaks_written && self.received >= script_.breaks_read &&
      (!script_.breaks_ended || self.fin_sent) && has_backend() &&
      side_[kFromClient].received + side_[kFromBackend].received > 0) {
    break_off(side);
    return true;
  }
  if (!self.ended || !(self.fin_sent || self.cannot_write)) return false;
  self.peer->close();
  self.closed = true;
  return true;
}

void Session::break_off(unsigned side) {
  Side& self = side_[side];
  guaranteed_ = all_handed_over(self.peer->fd()) ? self.written : 0;
  if (script_.ending == Ending::kReset) {
    self.peer->reset();
  } else {
    self.peer->close();
  }
  self.closed = true;
  broken_ = true;
}

void Session::fail(unsigned side, const std::string& what) {
  if (failure_.empty()) failure_ = std::string("the ") + name_of(side) + " " + what;
}

std::string Session::describe() const {
  std::ostringstream out;
  out << test::describe(script_);
  for (const unsigned side : {kFromClient, kFromBackend}) {
    const Side& self = side_[side];
    out << "  now: the " << name_of(side) << (self.peer ? "" : ", not accepted,") << " has written "
        << self.written << (self.fin_sent ? " and FIN" : "") << (self.may_write ? "" : " (blocked)")
        << ", read " << self.received << (self.ended ? " and the end" : "")
        << (self.stalled ? " (stopped)" : "") << (self.closed ? ", and is closed" : "") << "\n";
  }
  return out.str();
}

}  // namespace relayd::net::test
