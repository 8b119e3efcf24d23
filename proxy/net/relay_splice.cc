#include <fcntl.h>

#include <algorithm>
#include <cerrno>

#include "proxy/net/relay.h"

// Bulk: bytes go from socket to socket through a pipe and are not copied. A pipe is borrowed for as long as
// bytes move, and given back whenever there is nothing to move, so that a slow or idle stream holds none.
namespace relayd::net {
namespace {

// A splice pays from about this size on; below it two system calls and a pipe cost more than a copy.
constexpr std::size_t kSmallMove = std::size_t{32} * 1024;
// Small ones, one after the other, until bytes are copied again.
constexpr std::uint8_t kSmallMoves = 4;

// Never SPLICE_F_MORE: the last segment would wait for more, up to 200 ms (tcp(7), TCP_CORK).
constexpr unsigned kFlags = SPLICE_F_MOVE | SPLICE_F_NONBLOCK;

}  // namespace

bool Relay::begin_splicing(Connection& connection, unsigned from) {
  const bool suited = !(connection.side[from] & (kUrgent | kFailed));
  const Index pipe = suited ? pipes_.borrow() : kNone;
  if (pipe == kNone) {
    connection.full_reads[from] = 0;
    return false;
  }
  hasten(connection, 1 - from, PipePool::kCapacity);
  connection.parked[from] = pipe | kPipeBit;
  return true;
}

void Relay::end_splicing(Connection& connection, unsigned from) {
  drop_parked(connection, from);
  if (connection.full_reads[from] >= kReadsBeforeSplice + kSmallMoves) connection.full_reads[from] = 0;
}

// What to do next; nothing where the pipe is given back and the direction goes on as one that copies: also at
// the end of the stream, at an error, and at the mark of urgent data, which only recv tells apart.
std::optional<Next> Relay::splice(Connection& connection, unsigned from, std::size_t& share,
                                  http::Body* body) {
  std::uint16_t& source = connection.side[from];
  Pipe& pipe = pipes_[connection.parked[from] & ~kPipeBit];
  for (;;) {
    if (!splice_out(connection, from)) return Next::kWait;
    const bool more = connection.flow[from] == Flow::kOpen && (source & kReadReady) &&
                      !(source & (kUrgent | kFailed)) && (connection.side[1 - from] & kWriteReady) &&
                      connection.full_reads[from] < kReadsBeforeSplice + kSmallMoves &&
                      (body == nullptr || body->unread() > 0);
    if (!more) break;
    if (share == 0) return Next::kAgain;
    const std::size_t wanted =
        body == nullptr ? PipePool::kCapacity : std::min<std::uint64_t>(PipePool::kCapacity, body->unread());
    const ssize_t got = ::splice(connection.fd[from], nullptr, pipe.write.get(), nullptr, wanted, kFlags);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) {
      source &= static_cast<std::uint16_t>(~kReadReady);
      break;
    }
    if (got <= 0) {
      // The error is told only once: to recv it looks like an end.
      if (got < 0 && errno != EINVAL && errno != ENOMEM) source |= kWasReset;
      connection.full_reads[from] = 0;
      break;
    }
    pipe.bytes = static_cast<std::size_t>(got);
    share -= std::min(share, pipe.bytes);
    if (body != nullptr) body->skip(pipe.bytes);
    if (pipe.bytes < kSmallMove) {
      ++connection.full_reads[from];
    } else {
      connection.full_reads[from] = kReadsBeforeSplice;
    }
  }
  end_splicing(connection, from);
  return std::nullopt;
}

// False where bytes are left, or the sink has failed.
bool Relay::splice_out(Connection& connection, unsigned from) {
  const unsigned to = 1 - from;
  Pipe& pipe = pipes_[connection.parked[from] & ~kPipeBit];
  while (pipe.bytes > 0) {
    if (!(connection.side[to] & kWriteReady)) return false;
    const ssize_t sent = ::splice(pipe.read.get(), nullptr, connection.fd[to], nullptr, pipe.bytes, kFlags);
    if (sent > 0) {
      pipe.bytes -= static_cast<std::size_t>(sent);
      (from == kClient ? connection.bytes_in : connection.bytes_out) += static_cast<std::uint64_t>(sent);
    } else if (sent == 0 || errno == EAGAIN) {
      connection.side[to] &= static_cast<std::uint16_t>(~kWriteReady);
    } else if (errno != EINTR) {
      sink_failed(connection, to, errno);
      return false;
    }
  }
  return true;
}

}  // namespace relayd::net
