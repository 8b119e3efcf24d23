#include <algorithm>
#include <cerrno>
#include <utility>

#include "proxy/net/answers.h"
#include "proxy/net/relay.h"

// The response to an HTTP request, and how a client's connection ends behind it or behind an answer of
// relayd's own.
namespace relayd::net {

// Until the final response has begun (stage kAnswering): kWait. In one frame, as run_http().
[[gnu::flatten]] Next Relay::await_response(Connection& connection, Exchange& exchange) {
  while (exchange.stage == Stage::kUnanswered) {
    // An interim response that the client has not taken yet.
    if (connection.parked[kBackend] != kNone && flush(connection, kBackend) != Moved::kAll) {
      return connection.side[kClient] & kFailed ? Next::kReset : Next::kWait;
    }
    std::string_view bytes;
    if (const Next next = read_backend(connection, exchange, bytes); next != Next::kAgain) return next;
    const auto found = http::find_response_head(bytes, exchange.context);
    const bool too_large = found && found->size == 0 && bytes.size() >= kReadSize;
    if (!found || too_large) {
      return answer(connection, exchange, 502,
                    found ? "its head is larger than 64 KiB" : found.error().reason);
    }
    if (found->size == 0) {
      if (exchange.partial == kNone) {
        exchange.partial = borrow_chunk(kChunkSize);
        chunk_of(exchange.partial).append(bytes);
      }
      continue;
    }
    const Next next = take_response(connection, exchange, bytes, *found);
    if (next != Next::kWait) return next;
  }
  return Next::kWait;
}

// The response's bytes so far: in the buffer, or in the chunk for heads that come in parts. kAgain: there are
// new ones.
Next Relay::read_backend(Connection& connection, Exchange& exchange, std::string_view& bytes) {
  std::uint16_t& side = connection.side[kBackend];
  if (exchange.flags & kUnread) {
    exchange.flags &= static_cast<std::uint16_t>(~kUnread);
    bytes = chunk_of(exchange.partial).bytes();
    return Next::kAgain;
  }
  for (;;) {
    if (!(side & kReadReady)) return Next::kWait;
    Chunk* const chunk = exchange.partial != kNone ? &chunk_of(exchange.partial) : nullptr;
    char* const to = chunk != nullptr ? chunk->data() + chunk->end : buffer_;
    const std::size_t wanted = sizeof buffer_ - (chunk != nullptr ? chunk->end : 0);
    const ssize_t got = receive(connection, kBackend, to, wanted);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0 && errno == EAGAIN) {
      side &= static_cast<std::uint16_t>(~kReadReady);
      return Next::kWait;
    }
    if (got < 0) side |= kFailed;
    if (got <= 0) {
      if (chunk == nullptr) return Next::kLost;
      return answer(connection, exchange, 502, "the app has ended within the head of its response");
    }
    note_read(connection, kBackend, static_cast<std::size_t>(got), wanted);
    bytes = {buffer_, static_cast<std::size_t>(got)};
    if (chunk != nullptr) {
      chunk->end += static_cast<std::size_t>(got);
      bytes = chunk->bytes();
    }
    return Next::kAgain;
  }
}

Next Relay::take_response(Connection& connection, Exchange& exchange, std::string_view bytes,
                          const http::Found<http::ResponseHead>& found) {
  const http::ResponseHead& head = found.head;
  std::size_t size = found.size;
  std::string last;
  if (head.kind == http::ResponseKind::kFinal) {
    exchange.response = http::Body(head);
    size += exchange.response.advance(bytes.substr(found.size));
    exchange.stage = Stage::kAnswering;
    set(exchange, kBackendKeeps, head.keep_alive && head.framing != http::Framing::kUntilClose);
    set(exchange, kSpoilt, size < bytes.size());
    if (is_last(connection, exchange)) {
      last = as_last_head(bytes.substr(0, found.size)).append(bytes.substr(found.size));
      if (last.size() <= sizeof buffer_) {
        set(exchange, kBackendKeeps, false);
        size += last.size() - bytes.size();
        bytes = last;
      }
    }
  } else if (head.kind == http::ResponseKind::kTunnel) {
    size = bytes.size();
  }
  // deliver() sends from the buffer.
  if (bytes.data() != buffer_) std::copy(bytes.begin(), bytes.end(), buffer_);
  const std::string_view behind(buffer_ + size, bytes.size() - size);
  deliver(connection, kBackend, size, 0);
  give_back(std::exchange(exchange.partial, kNone));
  if (connection.side[kClient] & kFailed) return Next::kReset;
  if (head.kind == http::ResponseKind::kInterim) {
    exchange.flags &= static_cast<std::uint16_t>(~kWhole);  // it has begun to answer
    if (!behind.empty()) {
      exchange.partial = borrow_chunk(kChunkSize);
      chunk_of(exchange.partial).append(behind);
      exchange.flags |= kUnread;
    }
  }
  if (head.kind != http::ResponseKind::kTunnel) return Next::kWait;
  forget_request(connection, exchange);
  return Next::kTunnel;
}

// Whether the client should be told that this connection takes no further request (RFC 9112 9.6). Not where
// it has sent one already.
bool Relay::is_last(const Connection& connection, const Exchange& exchange) {
  constexpr unsigned kBoth = kClientKeeps | kBackendKeeps;
  if (!(exchange.flags & kNoFurther) || (exchange.flags & kBoth) != kBoth) return false;
  const Index parked = connection.parked[kClient];
  const bool another = parked != kNone && !is_pipe(parked) && chunk_of(parked).end > exchange.request_end;
  return !another && request_has_left(connection, exchange) && !has_bytes(connection.fd[kClient]);
}

[[gnu::flatten]] Next Relay::pass_response(Connection& connection, Exchange& exchange) {
  forget_request(connection, exchange);
  if (!exchange.response.refusal().empty()) return end_http(connection, exchange);
  excess_ = {};
  const Next next = pump(connection, kBackend, &exchange.response);
  if (!excess_.empty()) exchange.flags |= kSpoilt;
  excess_ = {};
  if (connection.side[kClient] & kFailed) return Next::kReset;
  // Broken off or wrong within the body: the client sees the end, and knows by its framing.
  const bool ended = connection.flow[kBackend] != Flow::kOpen;
  const bool over = exchange.response.done() && connection.parked[kBackend] == kNone;
  if (next == Next::kReset) return next;
  if (next == Next::kRefused || (ended && connection.parked[kBackend] == kNone)) {
    return end_http(connection, exchange);
  }
  if (!over || next == Next::kAgain) return next == Next::kAgain ? next : Next::kWait;
  return conclude(connection, exchange);
}

// The request need not be sent again any more. Not before all of it has been sent.
void Relay::forget_request(Connection& connection, Exchange& exchange) {
  if (exchange.request_end == 0 || !request_has_left(connection, exchange)) return;
  exchange.request_end = 0;
  exchange.flags &= static_cast<std::uint16_t>(~kWhole);
  if (connection.parked[kClient] == kNone) return;
  Chunk& chunk = chunk_of(connection.parked[kClient]);
  if (chunk.begin == chunk.end) {
    drop_parked(connection, kClient);
  } else {
    chunk.drop_front(0);
  }
}

// The response has been passed on.
Next Relay::conclude(Connection& connection, Exchange& exchange) {
  // By what it was told: the backend may have gone meanwhile, and there are others.
  const bool keeps = (exchange.flags & kClientKeeps) && (exchange.flags & kBackendKeeps) &&
                     connection.flow[kClient] == Flow::kOpen;
  if (!keeps) return end_http(connection, exchange);
  if (!request_has_left(connection, exchange)) {
    // It goes on meanwhile, as long as somebody takes it.
    return connection.side[kBackend] & kFailed ? end_http(connection, exchange) : Next::kWait;
  }
  exchange.stage = Stage::kAwaited;
  return Next::kExchanged;
}

// ---- The end ----

// Nothing more is taken from the client, which gets what is parked and then the end.
Next Relay::end_http(Connection& connection, Exchange& exchange) {
  drop_parked(connection, kClient);
  give_back(std::exchange(exchange.partial, kNone));
  connection.side[kBackend] |= kFailed;
  if (connection.flow[kBackend] == Flow::kOpen) connection.flow[kBackend] = Flow::kDraining;
  connection.flow[kClient] = Flow::kDiscard;
  return Next::kLinger;
}

Next Relay::answer(Connection& connection, Exchange& exchange, unsigned status, std::string_view reason) {
  const bool begun = exchange.stage == Stage::kAnswering || connection.parked[kBackend] != kNone;
  if (!begun) {
    exchange.answer = static_cast<std::uint16_t>(status);
    park(connection, kBackend, answer_text(status, reason, exchange.context.head));
  }
  return end_http(connection, exchange);
}

void Relay::drop_partial(Exchange& exchange) { give_back(std::exchange(exchange.partial, kNone)); }

}  // namespace relayd::net
