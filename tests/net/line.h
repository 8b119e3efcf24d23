#pragma once

#include <cstdint>

#include "tests/net/support.h"

namespace relayd::net::test {

inline constexpr std::size_t kKiB = 1024;
inline constexpr std::size_t kMiB = 1024 * kKiB;

// One direction of a connection through the plane: an endless stream of its own (noise_at), compared as it
// arrives. Its peers do not block any more and must outlive it.
class Line {
 public:
  Line(Peer& from, Peer& to, std::uint64_t noise);

  // At most so many bytes; how many there were.
  std::size_t write(std::size_t most);
  std::size_t read(std::size_t most);

  // Writes until the writer is made to wait and nothing moves any more.
  void fill();
  // Reads exactly so many bytes, waiting for them.
  void take(std::uint64_t size);
  // Reads to the end.
  void take_the_end();
  // A message, written and read.
  void pass(std::size_t size);

  std::uint64_t in_flight() const { return written_ - received_; }
  std::uint64_t written() const { return written_; }
  std::uint64_t received() const { return received_; }
  bool exact() const { return exact_; }  // all bytes so far were the right ones
  bool ended() const { return ended_; }

 private:
  bool await_bytes();

  Peer& from_;
  Peer& to_;
  std::uint64_t noise_;
  std::uint64_t written_ = 0;
  std::uint64_t received_ = 0;
  bool exact_ = true;
  bool ended_ = false;
};

}  // namespace relayd::net::test
