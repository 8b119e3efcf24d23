#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "tests/net/script.h"
#include "tests/net/support.h"

namespace relayd::net::test {

// Plays one script: both ends of one connection through the plane, without blocking. Whoever owns it tells it
// of edges (epoll(7)) and steps it.
class Session {
 public:
  // The client is connected; it writes at once, whether or not the plane has a backend for it.
  Session(Script script, Peer client);
  void accepted(Peer backend);
  bool has_backend() const { return side_[kFromBackend].peer.has_value(); }
  int fd(unsigned side) const { return side_[side].peer->fd(); }

  void on_edge(unsigned side, std::uint32_t events);
  // Does what can be done. `round` grows while others move bytes; a reader that stops for long looks at it.
  // True where more could be done at once.
  bool step(std::uint64_t round);
  // Nothing moves any more: those who wait for that go on.
  void on_quiet() { quiet_ = true; }
  bool stalls_deeply() const;

  bool done() const { return side_[kFromClient].closed && side_[kFromBackend].closed; }
  const std::string& failure() const { return failure_; }  // empty: none
  const Script& script() const { return script_; }
  // Script, and how far it has come.
  std::string describe() const;

  std::uint64_t messages_verified() const { return messages_verified_; }
  std::uint64_t large_verified() const { return large_verified_; }  // of those, of 64 KiB and more
  std::uint64_t written(unsigned side) const { return side_[side].written; }
  std::uint64_t received(unsigned side) const { return side_[side].received; }

 private:
  struct Side {
    std::optional<Peer> peer;
    bool closed = false;
    bool may_write = true;
    bool may_read = true;
    // as a writer
    std::uint64_t written = 0;
    std::size_t message = 0;  // the first that is not written whole
    bool fin_sent = false;
    bool cannot_write = false;  // the connection was broken by the other side
    // as a reader
    std::uint64_t received = 0;
    std::size_t verified = 0;  // messages of the peer
    std::size_t stall = 0;     // the next
    bool stalled = false;
    std::uint64_t stalled_in = 0;  // round
    bool ended = false;            // FIN or reset was read
  };

  bool write(unsigned side);
  bool finish(unsigned side);
  bool read(unsigned side, std::uint64_t round);
  void verify(unsigned side, std::string_view bytes);
  void end_of_stream(unsigned side, int error);
  bool close_or_break(unsigned side);
  void break_off(unsigned side);
  bool gate_open(unsigned side, Gate gate) const;
  std::uint64_t answered_position(unsigned side) const;
  bool stands_still(unsigned side, std::uint64_t round);
  bool writer_waits(unsigned side) const;
  void fail(unsigned side, const std::string& what);

  Script script_;
  Side side_[2];
  bool broken_ = false;           // the breaker has gone
  std::uint64_t guaranteed_ = 0;  // bytes of the breaker that must arrive
  bool quiet_ = false;
  std::uint64_t messages_verified_ = 0;
  std::uint64_t large_verified_ = 0;
  std::string failure_;
};

}  // namespace relayd::net::test
