#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "proxy/net/chunk_pool.h"
#include "proxy/net/connection.h"
#include "proxy/net/exchange.h"
#include "proxy/net/pipe_pool.h"
#include "proxy/net/record.h"

namespace relayd::net {

// What has to be done with a connection after its bytes were moved.
enum class Next {
  kWait,       // for the next edge
  kAgain,      // it used up its share of the turn; more can be moved at once
  kClose,      // both directions have ended, or nobody is left to send to
  kReset,      // one side (kFailed) was reset and all it had sent is passed on: reset the other
  kLinger,     // the backend is gone after its whole response: let the client finish
  kReconnect,  // the backend failed before it took or gave a byte: another may serve this client
  // HTTP only:
  kNeedBackend,  // a request is in hand
  kExchanged,    // request and response have been passed on, and the client may go on
  kLost,         // the backend has gone without a byte of response
  kRefused,      // (inside) what comes cannot be framed
  kOpaque,       // no HTTP after all: the bytes in hand are to be relayed as they are
  kTunnel,       // opaque from here on
};

// Moves the bytes of connections. Small ones: recv into one buffer, send at once, park in a chunk what does
// not fit. In bulk, after reads that filled the buffer: splice(2) through a borrowed pipe, until moves get
// small. Knows nothing of services, routes or time. Half-close passes; after a reset, what the kernel still
// holds is passed on first. HTTP is relayed byte for byte too, one request at a time. One per worker; not
// thread-safe.
class Relay {
 public:
  Relay(ChunkPool& chunks, ChunkPool& small_chunks, PipePool& pipes)
      : chunks_(chunks), small_chunks_(small_chunks), pipes_(pipes) {}

  // Does what the edges noted in `connection.side` allow, in both directions. Counts bytes that the kernel
  // took.
  Next run(Connection& connection);
  // For a backend whose connect has just begun: on loopback the kernel is often done with it before
  // connect(2) returns. Passes on what is parked and what the client has sent already; 0 where the backend
  // took something, EAGAIN where there is nothing or it takes nothing yet, else the error of the connect.
  // What is not taken stays parked.
  int run_early(Connection& connection);
  // The same for an HTTP client (relay_http.cc). Its backend may be missing. `forwarded`: the value for
  // X-Forwarded-For; empty: the head is passed on as it is.
  Next run_http(Connection& connection, Exchange& exchange, std::string_view forwarded);
  // Ends an HTTP client's connection with an answer of relayd's own, where nothing of another one has been
  // sent yet, and says what to do next: kLinger, or kClose.
  Next answer(Connection& connection, Exchange& exchange, unsigned status, std::string_view reason);
  // run_early() for the request in hand.
  int run_http_early(Connection& connection, Exchange& exchange);
  void drop_partial(Exchange& exchange);
  // The request in hand is to be sent from its beginning, to another backend.
  void rewind(Connection& connection, Exchange& exchange);
  // Reads what a new client has sent. The bytes are first_bytes() until run_early() sends them or
  // keep_first() parks them; nothing else may be relayed meanwhile.
  std::string_view read_first(Connection& connection);
  std::string_view first_bytes() const { return {buffer_, first_}; }
  void keep_first(Connection& connection);

  // What a direction has parked, and the same of another Relay's. The record's pipe is owned from then on.
  ParkedRecord saved_parked(const Connection& connection, unsigned from);
  void restore_parked(Connection& connection, unsigned from, const ParkedRecord& record);
  std::string saved_partial(const Exchange& exchange);
  void restore_partial(Exchange& exchange, std::string_view bytes);

  // Gives back what a direction has parked, if anything; its bytes are lost.
  void drop_parked(Connection& connection, unsigned from);
  // Parks bytes, at most kReadSize. Nothing is parked there.
  void park(Connection& connection, unsigned from, std::string_view bytes);

 private:
  // Bytes of one direction in one turn, so that one stream does not starve the others.
  static constexpr std::size_t kShare = std::size_t{1024} * 1024;
  // Reads that filled the buffer, one after the other.
  static constexpr std::uint8_t kReadsBeforeSplice = 2;

  enum class Moved { kAll, kNotAll, kReconnect };
  // `body`: no further than to its end, and no longer than it can be framed.
  Next pump(Connection& connection, unsigned from, http::Body* body = nullptr);
  // As recv(2). That of a Unix socket stops short behind bytes that came with descriptors, which the kernel
  // drops here; it tells so by MSG_CTRUNC.
  static ssize_t receive(Connection& connection, unsigned from, char* to, std::size_t size);
  Moved flush(Connection& connection, unsigned from);
  int send_parked_early(Connection& connection);
  Next deliver(Connection& connection, unsigned from, std::size_t size, int flags);
  bool note_read(Connection& connection, unsigned from, std::size_t size, std::size_t wanted);
  void hasten(Connection& connection, unsigned to, std::size_t size);
  void finish(Connection& connection, unsigned from);
  Next source_failed(Connection& connection, unsigned from);
  void sink_failed(Connection& connection, unsigned to, int error);
  Next settle(Connection& connection);

  Chunk& chunk_of(Index parked) {
    return (parked & kSmallBit) != 0 ? small_chunks_[parked & ~kSmallBit] : chunks_[parked];
  }
  Index borrow_chunk(std::size_t size);
  void give_back(Index parked);

  // relay_splice.cc
  bool begin_splicing(Connection& connection, unsigned from);
  void end_splicing(Connection& connection, unsigned from);
  std::optional<Next> splice(Connection& connection, unsigned from, std::size_t& share, http::Body* body);
  bool splice_out(Connection& connection, unsigned from);

  // relay_http.cc
  Next await_request(Connection& connection, Exchange& exchange, std::string_view forwarded);
  Next read_client(Connection& connection, Exchange& exchange, std::string_view& bytes);
  void keep_request(Connection& connection, std::string_view bytes);
  Next take_request(Connection& connection, Exchange& exchange, std::string_view bytes,
                    const http::Found<http::RequestHead>& found, std::string_view forwarded);
  void send_in_hand(Connection& connection, Exchange& exchange);
  Next send_request(Connection& connection, Exchange& exchange);
  bool request_has_left(const Connection& connection, const Exchange& exchange);
  void pass_client_end(Connection& connection, Exchange& exchange);
  Next await_response(Connection& connection, Exchange& exchange);
  Next read_backend(Connection& connection, Exchange& exchange, std::string_view& bytes);
  Next take_response(Connection& connection, Exchange& exchange, std::string_view bytes,
                     const http::Found<http::ResponseHead>& found);
  bool is_last(const Connection& connection, const Exchange& exchange);
  Next pass_response(Connection& connection, Exchange& exchange);
  void forget_request(Connection& connection, Exchange& exchange);
  Next conclude(Connection& connection, Exchange& exchange);
  Next end_http(Connection& connection, Exchange& exchange);

  ChunkPool& chunks_;
  ChunkPool& small_chunks_;
  PipePool& pipes_;
  std::size_t first_ = 0;    // bytes in buffer_ that read_first() has left there
  std::string_view excess_;  // bytes in buffer_ behind the end of the body that pump() was given
  char buffer_[kReadSize];
};

// The backend can be replaced unseen: it took no byte and gave none, and did not end of its own will.
bool untouched_backend_died(const Connection& connection, int send_error);

}  // namespace relayd::net
