#pragma once

#include <cstddef>
#include <memory>
#include <vector>

#include "proxy/net/connection.h"

namespace relayd::net {

// What one recv may give, and what one direction may have parked: with its bounds, 64 KiB of whole pages.
inline constexpr std::size_t kChunkSize = std::size_t{64} * 1024 - 2 * sizeof(std::size_t);

// Bytes that were read and could not be sent yet.
struct Chunk {
  std::size_t begin = 0;
  std::size_t end = 0;
  char data[kChunkSize];
};
static_assert(sizeof(Chunk) == std::size_t{64} * 1024);

// The parked chunks of one worker. A few empty ones are kept; the others go back to the kernel, so that a
// burst leaves nothing behind. Not thread-safe.
class ChunkPool {
 public:
  ChunkPool() = default;
  ~ChunkPool();
  ChunkPool(const ChunkPool&) = delete;
  ChunkPool& operator=(const ChunkPool&) = delete;

  Index borrow();  // empty; throws std::bad_alloc
  void give_back(Index index);
  Chunk& operator[](Index index) { return *chunks_[index]; }
  std::size_t in_use() const { return in_use_; }

 private:
  static constexpr std::size_t kSpares = 16;  // 1 MiB a worker

  std::vector<Chunk*> chunks_;  // mapped; null where the number is free
  std::vector<Index> numbers_;  // free numbers
  std::vector<Chunk*> spares_;
  std::size_t in_use_ = 0;
};

}  // namespace relayd::net
