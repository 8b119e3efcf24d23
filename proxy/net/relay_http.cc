#include <sys/socket.h>

#include <cerrno>
#include <string>
#include <utility>

#include "proxy/http/first_bytes.h"
#include "proxy/net/answers.h"
#include "proxy/net/relay.h"

// HTTP/1: one request after the other, each with its response, byte for byte as they come. Heads are read
// whole, bodies go through pump() as far as they reach. A request stays in the client's chunk until the first
// byte of its response, so that it can be sent again.
namespace relayd::net {
namespace {

// Neither a byte nor an end or an error has come.
bool is_quiet(int fd) {
  char byte = 0;
  return ::recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN;
}

}  // namespace

// One frame for it all: the kernel empties the CPU's memory of where calls return to, so that each frame
// above a system call costs a wrong guess.
[[gnu::flatten]] Next Relay::run_http(Connection& connection, Exchange& exchange,
                                      std::string_view forwarded) {
  for (;;) {
    if (connection.side[kClient] & kFailed) return Next::kReset;
    if (exchange.stage == Stage::kAwaited) {
      const Next next = await_request(connection, exchange, forwarded);
      if (next != Next::kAgain) return next;
      if (connection.fd[kBackend] < 0) return Next::kNeedBackend;
    }
    const Stage before = exchange.stage;
    const Next up = send_request(connection, exchange);
    if (up != Next::kWait && up != Next::kAgain) return up;
    Next down = Next::kWait;
    if (exchange.stage == Stage::kUnanswered) down = await_response(connection, exchange);
    if (down == Next::kWait && exchange.stage == Stage::kAnswering)
      down = pass_response(connection, exchange);
    if (down != Next::kWait && down != Next::kAgain) return down;
    if (exchange.stage == before) {
      return up == Next::kAgain || down == Next::kAgain ? Next::kAgain : Next::kWait;
    }
  }
}

// ---- The request ----

// kAgain: a request is in hand.
Next Relay::await_request(Connection& connection, Exchange& exchange, std::string_view forwarded) {
  for (;;) {
    std::string_view bytes;
    if (const Next next = read_client(connection, exchange, bytes); next != Next::kAgain) {
      // What ends before it is a request is none.
      return next == Next::kClose && (exchange.flags & kGuessing) ? Next::kOpaque : next;
    }
    if (const std::size_t empty = http::skip_empty_lines(bytes); empty > 0) {
      bytes.remove_prefix(empty);
      exchange.searched = 0;
    }
    if (exchange.flags & kGuessing) {
      const http::Guess guess = http::looks_like_http1_request(bytes);
      if (guess != http::Guess::kMore) exchange.flags &= static_cast<std::uint16_t>(~kGuessing);
      if (guess == http::Guess::kNo) {
        keep_request(connection, bytes);
        return Next::kOpaque;
      }
    }
    exchange.context.head = bytes.starts_with("HEAD ");  // for an answer of relayd's own
    const auto found = http::find_request_head(bytes, exchange.searched);
    if (!found) return answer(connection, exchange, found.error().status, found.error().reason);
    if (found->size > 0) return take_request(connection, exchange, bytes, *found, forwarded);
    if (bytes.size() >= kReadSize) return answer(connection, exchange, 431, "the head is larger than 64 KiB");
    exchange.searched = static_cast<std::uint32_t>(bytes.size());
    keep_request(connection, bytes);
  }
}

// All bytes of the client that are in hand, with new ones among them; in the chunk, or in the buffer alone.
// kAgain: there are such.
Next Relay::read_client(Connection& connection, Exchange& exchange, std::string_view& bytes) {
  std::uint16_t& side = connection.side[kClient];
  if (connection.parked[kClient] != kNone) {
    bytes = chunk_of(connection.parked[kClient]).bytes();
    if (bytes.size() > exchange.searched) return Next::kAgain;  // behind the last request
  }
  for (;;) {
    if (side & kFailed) return Next::kReset;
    if (!(side & kReadReady)) return Next::kWait;
    const std::size_t wanted = sizeof buffer_ - bytes.size();
    const ssize_t got = receive(connection, kClient, buffer_, wanted);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) {
      side &= static_cast<std::uint16_t>(~kReadReady);
      return Next::kWait;
    }
    if (got < 0) {
      side |= kFailed;
      return Next::kReset;
    }
    if (got == 0) return Next::kClose;  // between two requests, or within a head
    note_read(connection, kClient, static_cast<std::size_t>(got), wanted);
    const std::string_view read(buffer_, static_cast<std::size_t>(got));
    if (bytes.empty()) {
      bytes = read;
    } else {
      keep_request(connection, bytes);  // where it is, unless it needs more room
      Index& parked = connection.parked[kClient];
      if (chunk_of(parked).room() < read.size()) {
        const Index larger = borrow_chunk(kChunkSize);
        chunk_of(larger).append(chunk_of(parked).bytes());
        give_back(std::exchange(parked, larger));
      }
      chunk_of(parked).append(read);
      bytes = chunk_of(parked).bytes();
    }
    return Next::kAgain;
  }
}

// `bytes` are in the buffer, or all that is in the chunk but what was dropped from its front.
void Relay::keep_request(Connection& connection, std::string_view bytes) {
  if (connection.parked[kClient] == kNone) {
    if (!bytes.empty()) park(connection, kClient, bytes);
    return;
  }
  Chunk& chunk = chunk_of(connection.parked[kClient]);
  if (bytes.empty()) {
    drop_parked(connection, kClient);
  } else if (bytes.size() < chunk.end - chunk.begin || chunk.begin != 0) {
    chunk.drop_front(chunk.end - chunk.begin - bytes.size());
  }
}

Next Relay::take_request(Connection& connection, Exchange& exchange, std::string_view bytes,
                         const http::Found<http::RequestHead>& found, std::string_view forwarded) {
  const http::RequestHead& head = found.head;
  exchange.request = http::Body(head);
  const std::string_view behind = bytes.substr(found.size);
  const std::size_t body = exchange.request.advance(behind);
  if (!exchange.request.refusal().empty()) {
    return answer(connection, exchange, 400, exchange.request.refusal());
  }
  if (!forwarded.empty() && head.forwarded_twin) {
    return answer(connection, exchange, 400, "a field that the app may take for X-Forwarded-For");
  }
  exchange.context = http::context_of(head);
  exchange.searched = 0;
  set(exchange, kClientKeeps, head.keep_alive);
  set(exchange, kRepeatable, http::is_idempotent(head.method));
  set(exchange, kWhole, exchange.request.done());
  set(exchange, kSentAgain, false);
  set(exchange, kFirstSent, false);
  exchange.stage = Stage::kUnanswered;
  if (forwarded.empty()) {
    keep_request(connection, bytes);
    exchange.request_end = static_cast<std::uint32_t>(found.size + body);
  } else {
    const std::string named = name_client(head, bytes.substr(0, found.size), forwarded);
    // `behind` may lie in the old chunk. The new one has room: no more than kReadSize was read.
    const Index fresh = borrow_chunk(named.size() + behind.size());
    chunk_of(fresh).append(named);
    chunk_of(fresh).append(behind);
    give_back(std::exchange(connection.parked[kClient], fresh));
    exchange.request_end = static_cast<std::uint32_t>(named.size() + body);
  }
  // What cannot be sent again is not sent to a backend that may have gone: its end may be there and not have
  // been told. Nor is anything to one that has ended a long silence by an answer to nobody, such as a 408.
  const bool again = (exchange.flags & kRepeatable) && (exchange.flags & kWhole);
  const bool stale = exchange.flags & kStale;
  set(exchange, kStale, false);
  const bool kept = connection.fd[kBackend] >= 0 && (exchange.flags & kReused);
  if (kept && !again && stale) return Next::kNeedBackend;
  const bool may_have_spoken = kept && (stale || !again);
  return may_have_spoken && !is_quiet(connection.fd[kBackend]) ? Next::kNeedBackend : Next::kAgain;
}

// What stands in the chunk; more of the body comes by pump().
void Relay::send_in_hand(Connection& connection, Exchange& exchange) {
  Chunk& chunk = chunk_of(connection.parked[kClient]);
  std::uint16_t& side = connection.side[kBackend];
  while (chunk.begin < exchange.request_end && (side & kWriteReady) && !(side & kFailed)) {
    const std::size_t size = exchange.request_end - chunk.begin;
    hasten(connection, kBackend, size);
    const ssize_t sent = ::send(connection.fd[kBackend], chunk.data() + chunk.begin, size, MSG_NOSIGNAL);
    if (sent >= 0) {
      chunk.begin += static_cast<std::size_t>(sent);
      connection.bytes_in += static_cast<std::uint64_t>(sent);
      exchange.flags |= kFirstSent;
    } else if (errno == EAGAIN) {
      side &= static_cast<std::uint16_t>(~kWriteReady);
    } else if (errno != EINTR) {
      const bool consumed = errno != EPIPE && errno != ENOTCONN;  // as in sink_failed()
      side |= kFailed | kReadReady | (consumed ? kWasReset : 0);  // it may have answered before
    }
  }
}

Next Relay::send_request(Connection& connection, Exchange& exchange) {
  if (exchange.request_end > 0 && connection.parked[kClient] != kNone &&
      !is_pipe(connection.parked[kClient])) {
    const Chunk& chunk = chunk_of(connection.parked[kClient]);
    if (chunk.begin < exchange.request_end) send_in_hand(connection, exchange);
    if (chunk.begin < exchange.request_end) return Next::kWait;
    if (!exchange.request.done()) {
      drop_parked(connection, kClient);
      exchange.request_end = 0;
    }
  }
  if (request_has_left(connection, exchange)) {
    pass_client_end(connection, exchange);
    return Next::kWait;
  }
  // The end of a body may be in a pipe still.
  if (connection.flow[kClient] != Flow::kOpen && !is_pipe(connection.parked[kClient])) return Next::kWait;
  excess_ = {};
  const Next next = pump(connection, kClient, &exchange.request);
  const Index spilled = connection.parked[kClient];
  if (spilled != kNone && !is_pipe(spilled)) {
    exchange.request_end = static_cast<std::uint32_t>(chunk_of(spilled).end);
  }
  if (!excess_.empty() && exchange.request.refusal().empty()) {
    if (spilled == kNone) {
      park(connection, kClient, excess_);
    } else {
      Index& parked = connection.parked[kClient];
      const Index larger = borrow_chunk(kChunkSize);
      chunk_of(larger).append(chunk_of(parked).bytes());
      exchange.request_end = static_cast<std::uint32_t>(chunk_of(larger).end);
      chunk_of(larger).append(excess_.substr(0, chunk_of(larger).room()));
      give_back(std::exchange(parked, larger));
    }
    excess_ = {};
  }
  if (next == Next::kRefused) return answer(connection, exchange, 400, exchange.request.refusal());
  // Its end within the body was passed on; what the backend makes of it is the response.
  if (connection.flow[kClient] != Flow::kOpen) {
    exchange.flags &= static_cast<std::uint16_t>(~kClientKeeps);
  }
  return next;
}

// Whole, and taken by the backend's kernel.
bool Relay::request_has_left(const Connection& connection, const Exchange& exchange) {
  const Index parked = connection.parked[kClient];
  if (!exchange.request.done() || is_pipe(parked)) return false;
  return parked == kNone || chunk_of(parked).begin >= exchange.request_end;
}

// A client that ends behind its request may still read the response, or has gone: the backend is told, as it
// would be without relayd, and decides. A backend that has failed by now is found out by reading from it.
void Relay::pass_client_end(Connection& connection, Exchange& exchange) {
  if (connection.flow[kClient] != Flow::kOpen || !(connection.side[kClient] & kHangup)) return;
  const Index parked = connection.parked[kClient];
  if (parked != kNone && chunk_of(parked).end > exchange.request_end) return;  // another request
  char byte = 0;
  if (::recv(connection.fd[kClient], &byte, 1, MSG_PEEK | MSG_DONTWAIT) != 0) return;
  connection.flow[kClient] = Flow::kShut;
  exchange.flags &= static_cast<std::uint16_t>(~kClientKeeps);
  ::shutdown(connection.fd[kBackend], SHUT_WR);
}

// ---- To a backend that has just been connected, or to another one ----

int Relay::run_http_early(Connection& connection, Exchange& exchange) {
  Chunk& chunk = chunk_of(connection.parked[kClient]);
  const std::size_t size = exchange.request_end - chunk.begin;
  hasten(connection, kBackend, size);
  const ssize_t sent = ::send(connection.fd[kBackend], chunk.data() + chunk.begin, size, MSG_NOSIGNAL);
  if (sent < 0) return errno;
  chunk.begin += static_cast<std::size_t>(sent);
  connection.bytes_in += static_cast<std::uint64_t>(sent);
  exchange.flags |= kFirstSent;
  if (static_cast<std::size_t>(sent) == size) connection.side[kBackend] |= kWriteReady;
  return 0;
}

void Relay::rewind(Connection& connection, Exchange& exchange) {
  if (connection.parked[kClient] != kNone) chunk_of(connection.parked[kClient]).begin = 0;
  give_back(std::exchange(exchange.partial, kNone));
  exchange.flags &= static_cast<std::uint16_t>(~(kFirstSent | kUnread));
  connection.flow[kClient] = Flow::kOpen;
}

}  // namespace relayd::net
