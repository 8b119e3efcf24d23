#pragma once

#include <optional>
#include <string_view>

#include "proxy/net/chunk_pool.h"
#include "proxy/net/connection.h"
#include "proxy/net/pipe_pool.h"

namespace relayd::net {

// What has to be done with a connection after its bytes were moved.
enum class Next {
  kWait,       // for the next edge
  kAgain,      // it used up its share of the turn; more can be moved at once
  kClose,      // both directions have ended, or nobody is left to send to
  kReset,      // one side (kFailed) was reset and all it had sent is passed on: reset the other
  kLinger,     // the backend is gone after its whole response: let the client finish
  kReconnect,  // the backend failed before it took or gave a byte: another may serve this client
};

// Moves the bytes of connections. Small ones: recv into one buffer, send at once, park in a chunk what does
// not fit. In bulk, after reads that filled the buffer: splice(2) through a borrowed pipe, until moves get
// small. Knows nothing of services, routes or time. Half-close passes; after a reset, what the kernel still
// holds is passed on first. One per worker; not thread-safe.
class Relay {
 public:
  Relay(ChunkPool& chunks, PipePool& pipes) : chunks_(chunks), pipes_(pipes) {}

  // Does what the edges noted in `connection.side` allow, in both directions. Counts bytes that the kernel
  // took.
  Next run(Connection& connection);
  // For a backend whose connect has just begun: on loopback the kernel is often done with it before
  // connect(2) returns. Passes on what is parked and what the client has sent already; 0 where the backend
  // took something, EAGAIN where there is nothing or it takes nothing yet, else the error of the connect.
  // What is not taken stays parked.
  int run_early(Connection& connection);
  // Gives back what a direction has parked, if anything; its bytes are lost.
  void drop_parked(Connection& connection, unsigned from);
  // Parks bytes, at most kChunkSize. Nothing is parked there.
  void park(Connection& connection, unsigned from, std::string_view bytes);

 private:
  // Bytes of one direction in one turn, so that one stream does not starve the others.
  static constexpr std::size_t kShare = std::size_t{1024} * 1024;
  // Reads that filled the buffer, one after the other.
  static constexpr std::uint8_t kReadsBeforeSplice = 2;

  enum class Moved { kAll, kNotAll, kReconnect };
  Next pump(Connection& connection, unsigned from);
  Moved flush(Connection& connection, unsigned from);
  Next deliver(Connection& connection, unsigned from, std::size_t size, int flags);
  bool note_read(Connection& connection, unsigned from, std::size_t size);
  void hasten(Connection& connection, unsigned to, std::size_t size);
  void finish(Connection& connection, unsigned from);
  Next source_failed(Connection& connection, unsigned from);
  void sink_failed(Connection& connection, unsigned to, int error);
  Next settle(Connection& connection);

  // relay_splice.cc
  bool begin_splicing(Connection& connection, unsigned from);
  void end_splicing(Connection& connection, unsigned from);
  std::optional<Next> splice(Connection& connection, unsigned from, std::size_t& share);
  bool splice_out(Connection& connection, unsigned from);

  ChunkPool& chunks_;
  PipePool& pipes_;
  char buffer_[kChunkSize];
};

// The backend can be replaced unseen: it took no byte and gave none, and did not end of its own will.
bool untouched_backend_died(const Connection& connection, int send_error);

}  // namespace relayd::net
