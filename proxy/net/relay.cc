#include "proxy/net/relay.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <tuple>
#include <utility>

namespace relayd::net {
namespace {

void count(Connection& connection, unsigned from, std::size_t size) {
  (from == kClient ? connection.bytes_in : connection.bytes_out) += size;
}

// The kernel tells an error once, and then only an end: what is read before anybody can be told is
// remembered.
void note_early_error(Connection& connection, int error) {
  std::uint16_t& client = connection.side[kClient];
  if (error == EAGAIN) client &= static_cast<std::uint16_t>(~kReadReady);
  if (error != EAGAIN && error != EINTR) client |= kWasReset;
}

// Nothing reaches the failed side any more: its peer's bytes are thrown away.
void end_flow_into(Connection& connection, unsigned failed) {
  Flow& flow = connection.flow[1 - failed];
  if (flow == Flow::kOpen) flow = Flow::kDiscard;
  if (flow == Flow::kDraining) flow = Flow::kShut;
}

}  // namespace

bool untouched_backend_died(const Connection& connection, int send_error) {
  if (connection.exchange != kNone) return false;  // its request is sent again by other rules
  if (connection.state != State::kRelaying || connection.bytes_in != 0 || connection.bytes_out != 0 ||
      connection.flow[kBackend] != Flow::kOpen || connection.flow[kClient] == Flow::kShut ||
      connection.rescues >= kMostRescues) {
    return false;
  }
  char byte = 0;
  const ssize_t peeked = ::recv(connection.fd[kBackend], &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  if (peeked > 0) return false;
  // A send that told ECONNRESET has consumed it; recv then gives 0, as after a FIN (tcp(7) does not say so).
  return send_error == ECONNRESET || (peeked < 0 && errno == ECONNRESET);
}

Next Relay::run(Connection& connection) {
  const auto standing = [&connection] {
    return std::tuple((connection.side[kClient] | connection.side[kBackend]) & kFailed,
                      connection.flow[kClient], connection.flow[kBackend]);
  };
  for (;;) {
    const auto before = standing();
    const Next to_backend = pump(connection, kClient);
    if (to_backend != Next::kWait && to_backend != Next::kAgain) return to_backend;
    const Next to_client = pump(connection, kBackend);
    if (to_client != Next::kWait && to_client != Next::kAgain) return to_client;
    const Next settled = settle(connection);
    if (settled != Next::kWait) return settled;
    if (connection.flow[kClient] == Flow::kShut && connection.flow[kBackend] == Flow::kShut)
      return Next::kClose;
    // An end or a failure may have set the other direction free.
    if (standing() == before) {
      return to_backend == Next::kAgain || to_client == Next::kAgain ? Next::kAgain : Next::kWait;
    }
  }
}

Next Relay::settle(Connection& connection) {
  const bool client_failed = connection.side[kClient] & kFailed;
  const bool backend_failed = connection.side[kBackend] & kFailed;
  if (connection.state == State::kLingering) return client_failed ? Next::kClose : Next::kWait;
  if (client_failed && backend_failed) return Next::kClose;
  if (client_failed) {
    drop_parked(connection, kBackend);
    end_flow_into(connection, kClient);
    return connection.flow[kClient] == Flow::kShut ? Next::kReset : Next::kWait;
  }
  if (backend_failed) {
    drop_parked(connection, kClient);
    end_flow_into(connection, kBackend);
    const Flow response = connection.flow[kBackend];
    return response == Flow::kDraining || response == Flow::kShut ? Next::kLinger : Next::kWait;
  }
  return Next::kWait;
}

Next Relay::pump(Connection& connection, unsigned from, http::Body* body) {
  std::uint16_t& source = connection.side[from];
  const std::uint16_t& sink = connection.side[1 - from];
  std::size_t share = kShare;
  for (;;) {
    if (is_pipe(connection.parked[from])) {
      if (const auto next = splice(connection, from, share, body)) return *next;
    } else if (connection.parked[from] != kNone) {
      const Moved flushed = flush(connection, from);
      if (flushed == Moved::kReconnect) return Next::kReconnect;
      if (flushed == Moved::kNotAll) return Next::kWait;
    }
    const Flow flow = connection.flow[from];
    if (flow == Flow::kShut) return Next::kWait;
    if (flow == Flow::kDraining) {
      finish(connection, from);
      return Next::kWait;
    }
    if (body != nullptr && body->done()) return Next::kWait;
    const bool discard = flow == Flow::kDiscard;
    if (!(source & kReadReady) || (!discard && !(sink & kWriteReady))) return Next::kWait;
    if (share == 0) return Next::kAgain;
    const bool long_enough = body == nullptr || body->unread() >= PipePool::kCapacity;
    if (!discard && long_enough && connection.full_reads[from] >= kReadsBeforeSplice &&
        begin_splicing(connection, from)) {
      continue;
    }
    const std::size_t wanted = body != nullptr && body->is_length()
                                   ? std::min<std::uint64_t>(sizeof buffer_, body->unread())
                                   : sizeof buffer_;
    const ssize_t got = receive(connection, from, buffer_, wanted);
    if (got < 0) {
      if (errno == EINTR) continue;
      if (errno != EAGAIN) return source_failed(connection, from);
      source &= static_cast<std::uint16_t>(~kReadReady);
      return Next::kWait;
    }
    if (got == 0) {
      if (source & kWasReset) return source_failed(connection, from);
      connection.flow[from] = discard ? Flow::kShut : Flow::kDraining;
      continue;
    }
    const auto size = static_cast<std::size_t>(got);
    bool last = note_read(connection, from, size, wanted);
    share -= std::min(share, size);
    std::size_t mine = size;
    if (body != nullptr) {
      mine = body->advance({buffer_, size});
      excess_ = {buffer_ + mine, size - mine};
      last = last && body->may_end() && !body->done();  // else it is not the end of the message that tells
    }
    if (discard) continue;
    if (mine > 0) {
      const Next next = deliver(connection, from, mine, last ? MSG_MORE : 0);
      if (next != Next::kWait) return next;
    }
    if (sink & kFailed) return Next::kWait;
    if (body != nullptr && !body->refusal().empty()) return Next::kRefused;
    if (last) connection.flow[from] = Flow::kDraining;
  }
}

// Sends what was just read; parks the rest. With MSG_MORE the FIN that follows goes in the same segment.
Next Relay::deliver(Connection& connection, unsigned from, std::size_t size, int flags) {
  const unsigned to = 1 - from;
  hasten(connection, to, size);
  ssize_t sent = ::send(connection.fd[to], buffer_, size, MSG_NOSIGNAL | flags);
  bool reconnect = false;
  if (sent < 0) {
    if (errno != EAGAIN && errno != EINTR) {
      const int error = errno;
      reconnect = to == kBackend && untouched_backend_died(connection, error);
      if (!reconnect) {
        sink_failed(connection, to, error);
        return Next::kWait;
      }
    }
    sent = 0;
  }
  const auto taken = static_cast<std::size_t>(sent);
  count(connection, from, taken);
  if (taken == size) return Next::kWait;
  connection.side[to] &= static_cast<std::uint16_t>(~kWriteReady);
  park(connection, from, {buffer_ + taken, size - taken});
  return reconnect ? Next::kReconnect : Next::kWait;
}

// What is parked for a backend that goes away untouched stays parked for the next one.
Relay::Moved Relay::flush(Connection& connection, unsigned from) {
  const unsigned to = 1 - from;
  if (!(connection.side[to] & kWriteReady)) return Moved::kNotAll;
  Chunk& chunk = chunk_of(connection.parked[from]);
  while (chunk.begin < chunk.end) {
    hasten(connection, to, chunk.end - chunk.begin);
    const ssize_t sent =
        ::send(connection.fd[to], chunk.data() + chunk.begin, chunk.end - chunk.begin, MSG_NOSIGNAL);
    if (sent < 0) {
      const int error = errno;
      if (error == EINTR) continue;
      if (error == EAGAIN) {
        connection.side[to] &= static_cast<std::uint16_t>(~kWriteReady);
      } else if (to == kBackend && untouched_backend_died(connection, error)) {
        return Moved::kReconnect;
      } else {
        sink_failed(connection, to, error);
      }
      return Moved::kNotAll;
    }
    count(connection, from, static_cast<std::size_t>(sent));
    chunk.begin += static_cast<std::size_t>(sent);
  }
  drop_parked(connection, from);
  return Moved::kAll;
}

int Relay::run_early(Connection& connection) {
  if (connection.exchange != kNone) return EAGAIN;  // run_http() knows what may be sent
  if (connection.parked[kClient] != kNone) return send_parked_early(connection);
  if (first_ == 0 && read_first(connection).empty()) return EAGAIN;
  const std::size_t size = std::exchange(first_, 0);
  hasten(connection, kBackend, size);
  const ssize_t sent = ::send(connection.fd[kBackend], buffer_, size, MSG_NOSIGNAL);
  const int error = sent < 0 ? errno : 0;
  const auto taken = static_cast<std::size_t>(std::max<ssize_t>(sent, 0));
  count(connection, kClient, taken);
  if (taken < size) park(connection, kClient, {buffer_ + taken, size - taken});
  if (taken == size) connection.side[kBackend] |= kWriteReady;
  return error;
}

int Relay::send_parked_early(Connection& connection) {
  Chunk& chunk = chunk_of(connection.parked[kClient]);
  if (chunk.room() > 0) {
    const ssize_t got = receive(connection, kClient, chunk.data() + chunk.end, chunk.room());
    if (got < 0) note_early_error(connection, errno);
    if (got > 0) chunk.end += static_cast<std::size_t>(got);  // there may be more: it stays ready to be read
  }
  hasten(connection, kBackend, chunk.end - chunk.begin);
  const ssize_t sent =
      ::send(connection.fd[kBackend], chunk.data() + chunk.begin, chunk.end - chunk.begin, MSG_NOSIGNAL);
  if (sent < 0) return errno;
  count(connection, kClient, static_cast<std::size_t>(sent));
  chunk.begin += static_cast<std::size_t>(sent);
  if (chunk.begin == chunk.end) {
    drop_parked(connection, kClient);
    connection.side[kBackend] |= kWriteReady;
  }
  return 0;
}

// An end or an error is met again once the backend is there.
std::string_view Relay::read_first(Connection& connection) {
  const ssize_t got = receive(connection, kClient, buffer_, sizeof buffer_);
  if (got < 0) note_early_error(connection, errno);
  first_ = static_cast<std::size_t>(std::max<ssize_t>(got, 0));
  if (first_ > 0) note_read(connection, kClient, first_, sizeof buffer_);
  return first_bytes();
}

void Relay::keep_first(Connection& connection) {
  const std::size_t size = std::exchange(first_, 0);
  if (size == 0 || connection.state == State::kClosed) return;
  park(connection, kClient, {buffer_, size});
}

ssize_t Relay::receive(Connection& connection, unsigned from, char* to, std::size_t size) {
  if (!(connection.side[from] & kIsUnix)) return ::recv(connection.fd[from], to, size, 0);
  iovec bytes{.iov_base = to, .iov_len = size};
  msghdr message{};
  message.msg_iov = &bytes;
  message.msg_iovlen = 1;
  const ssize_t got = ::recvmsg(connection.fd[from], &message, 0);
  if (got > 0 && (message.msg_flags & MSG_CTRUNC)) connection.side[from] |= kUrgent;
  return got;
}

// What a read of so many bytes says of the ones to come. True where the end of the stream follows: the FIN
// was seen before, so that all that precedes it was there to be read.
bool Relay::note_read(Connection& connection, unsigned from, std::size_t size, std::size_t wanted) {
  std::uint16_t& source = connection.side[from];
  if (size == sizeof buffer_ && connection.full_reads[from] < kReadsBeforeSplice)
    ++connection.full_reads[from];
  if (size == wanted) return false;
  connection.full_reads[from] = 0;
  if (source & (kUrgent | kFailed)) return false;
  // A short read means drained, and saves the recv that would say EAGAIN: what comes later is a new edge.
  if (!(source & kHangup)) source &= static_cast<std::uint16_t>(~kReadReady);
  return (source & kHangup) && !(source & kWasReset);
}

// Nagle's algorithm holds back nothing while nothing is under way: the first bytes, if they fit in one
// segment, need no TCP_NODELAY, and many connections carry no others.
void Relay::hasten(Connection& connection, unsigned to, std::size_t size) {
  constexpr std::size_t kOneSegment = 536;  // the least that every path carries (RFC 9293, 3.7.1)
  if (connection.side[to] & kNoDelay) return;
  const std::uint64_t before = to == kBackend ? connection.bytes_in : connection.bytes_out;
  if (before == 0 && size <= kOneSegment) return;
  connection.side[to] |= kNoDelay;
  const int on = 1;
  ::setsockopt(connection.fd[to], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

void Relay::park(Connection& connection, unsigned from, std::string_view bytes) {
  connection.parked[from] = borrow_chunk(bytes.size());
  chunk_of(connection.parked[from]).append(bytes);
}

Index Relay::borrow_chunk(std::size_t size) {
  return size <= kSmallChunkSize ? small_chunks_.borrow() | kSmallBit : chunks_.borrow();
}

void Relay::give_back(Index parked) {
  if (parked == kNone) return;
  if (is_pipe(parked)) {
    pipes_.give_back(parked & ~kPipeBit);
  } else if ((parked & kSmallBit) != 0) {
    small_chunks_.give_back(parked & ~kSmallBit);
  } else {
    chunks_.give_back(parked);
  }
}

// Passes the FIN on. Where the other direction has ended too, closing both sockets does that: one system call
// less.
void Relay::finish(Connection& connection, unsigned from) {
  const unsigned to = 1 - from;
  connection.flow[from] = Flow::kShut;
  if (connection.flow[to] == Flow::kShut) return;
  if (::shutdown(connection.fd[to], SHUT_WR) != 0) sink_failed(connection, to, errno);
}

// All that the source had sent before its reset has been passed on to the sink's kernel.
Next Relay::source_failed(Connection& connection, unsigned from) {
  connection.side[from] |= kFailed;
  if (connection.side[1 - from] & kFailed || connection.flow[from] == Flow::kDiscard) return Next::kClose;
  if (from == kBackend && untouched_backend_died(connection, ECONNRESET)) return Next::kReconnect;
  return Next::kReset;
}

// Whatever the error was, recv will not tell it again, but for these two, which consume none.
void Relay::sink_failed(Connection& connection, unsigned to, int error) {
  const bool consumed = error != EPIPE && error != ENOTCONN;
  drop_parked(connection, 1 - to);
  connection.side[to] |= kFailed | kReadReady | (consumed ? kWasReset : 0);
  end_flow_into(connection, to);
}

void Relay::drop_parked(Connection& connection, unsigned from) {
  give_back(std::exchange(connection.parked[from], kNone));
}

}  // namespace relayd::net
