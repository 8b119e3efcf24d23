#pragma once

#include <cstddef>
#include <memory>
#include <string_view>
#include <vector>

#include "proxy/net/connection.h"

namespace relayd::net {

// Bytes that were read and could not be sent yet, or may have to be sent again.
struct Chunk {
  std::size_t begin = 0;
  std::size_t end = 0;
  std::size_t capacity = 0;
  char* memory = nullptr;

  char* data() { return memory; }
  std::string_view bytes() { return {data() + begin, end - begin}; }
  std::size_t room() const { return capacity - end; }
  void append(std::string_view bytes);  // at most room()
  void drop_front(std::size_t count);   // and moves the rest to the front
};

// What one recv may give, and what one direction may have parked.
inline constexpr std::size_t kReadSize = std::size_t{64} * 1024;
// Whole pages, and room for the lines that relayd adds to a request besides. A small one, of a page, holds
// what most HTTP requests are.
inline constexpr std::size_t kChunkSize = std::size_t{68} * 1024;
inline constexpr std::size_t kSmallChunkSize = std::size_t{4} * 1024;

// The chunks of one worker, of one size. Some empty ones are kept; the others go back to the kernel, so that
// a burst leaves nothing behind. Not thread-safe.
class ChunkPool {
 public:
  // `size`: of the bytes in one; whole pages.
  explicit ChunkPool(std::size_t size = kChunkSize, std::size_t spares = 16)
      : size_(size), most_spares_(spares) {}
  ~ChunkPool();
  ChunkPool(const ChunkPool&) = delete;
  ChunkPool& operator=(const ChunkPool&) = delete;

  Index borrow();  // empty; throws std::bad_alloc
  void give_back(Index index);
  // Stays where it is until it is given back.
  Chunk& operator[](Index index) { return chunks_[index / kRow][index % kRow]; }
  std::size_t in_use() const { return in_use_; }

 private:
  void unmap(char* memory) const;
  void add_row();

  const std::size_t size_;
  const std::size_t most_spares_;
  static constexpr Index kRow = 64;

  // The bounds lie close together, as they are looked at more often than the bytes, which lie in pages of
  // their own. Without memory where the number is free.
  std::vector<std::unique_ptr<Chunk[]>> chunks_;
  std::vector<Index> numbers_;  // free numbers
  std::vector<char*> spares_;
  std::size_t in_use_ = 0;
};

}  // namespace relayd::net
