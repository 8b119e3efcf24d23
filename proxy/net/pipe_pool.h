#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "proxy/base/descriptor.h"
#include "proxy/net/connection.h"

namespace relayd::net {

// A pipe through which splice(2) moves the bytes of one direction.
struct Pipe {
  Descriptor read;
  Descriptor write;
  std::size_t bytes = 0;  // in it
};

// The pipes of one worker: borrowed while bytes move in bulk, given back as soon as they pause. A few stay
// open for the next one; trim() closes those. Each takes two descriptors from the budget that clients are
// accepted by. Not thread-safe.
class PipePool {
 public:
  // `used` and `most`: the budget of descriptors (PlaneShared), shared by all workers; both outlive the pool.
  PipePool(std::atomic<std::uint64_t>& used, const std::atomic<std::uint64_t>& most)
      : used_(used), most_(most) {}
  ~PipePool();
  PipePool(const PipePool&) = delete;
  PipePool& operator=(const PipePool&) = delete;

  // An empty pipe of at least kLeastCapacity bytes; kNone where there is no descriptor or pipe memory
  // (pipe(7), pipe-user-pages-soft) to be had: bytes are then copied.
  Index borrow();
  // A pipe of another PipePool's making, with what is in it.
  Index adopt(Pipe pipe);
  // Bytes that are still in it are lost.
  void give_back(Index index);
  Pipe& operator[](Index index) { return pipes_[index]; }
  // Closes the spares; true where there were any.
  bool trim();

  // As much as one splice should move; what Linux grants an unprivileged user (fs.pipe-max-size).
  static constexpr std::size_t kCapacity = std::size_t{256} * 1024;
  // Below it a move costs more than a copy.
  static constexpr std::size_t kLeastCapacity = std::size_t{64} * 1024;

 private:
  static constexpr std::size_t kSpares = 8;
  static constexpr std::size_t kMost = 128;  // of one worker: beyond it bytes are copied
  static constexpr std::uint64_t kDescriptors = 2;
  static constexpr unsigned kPassed = 64;  // calls that go without trying after one that failed

  bool open(Pipe& pipe);
  void close(Pipe& pipe);

  std::atomic<std::uint64_t>& used_;
  const std::atomic<std::uint64_t>& most_;
  std::vector<Pipe> pipes_;     // closed where the number is free
  std::vector<Index> numbers_;  // free numbers
  std::vector<Index> spares_;   // numbers of open, empty ones
  unsigned to_pass_ = 0;
};

}  // namespace relayd::net
