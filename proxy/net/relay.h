#pragma once

#include "proxy/net/chunk_pool.h"
#include "proxy/net/connection.h"

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

// Moves the bytes of connections: recv into one buffer, send at once, park what does not fit. Knows nothing
// of services, routes or time. Half-close passes; after a reset, what the kernel still holds is passed on
// first. One per worker; not thread-safe.
class Relay {
 public:
  explicit Relay(ChunkPool& chunks) : chunks_(chunks) {}

  // Does what the edges noted in `connection.side` allow, in both directions. Counts bytes that the kernel
  // took.
  Next run(Connection& connection);
  // Gives back the chunk of a direction, where there is one; its bytes are lost.
  void drop_parked(Connection& connection, unsigned from);

 private:
  // Bytes of one direction in one turn, so that one stream does not starve the others.
  static constexpr std::size_t kShare = std::size_t{512} * 1024;

  Next pump(Connection& connection, unsigned from);
  enum class Flushed { kAll, kNotAll, kReconnect };
  Flushed flush(Connection& connection, unsigned from);
  Next deliver(Connection& connection, unsigned from, std::size_t size);
  void finish(Connection& connection, unsigned from);
  Next source_failed(Connection& connection, unsigned from);
  void sink_failed(Connection& connection, unsigned to, int error);
  Next settle(Connection& connection);

  ChunkPool& chunks_;
  char buffer_[kChunkSize];
};

// The backend can be replaced unseen: it took no byte and gave none, and did not end of its own will.
bool untouched_backend_died(const Connection& connection, int send_error);

}  // namespace relayd::net
