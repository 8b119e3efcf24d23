#include "proxy/net/chunk_pool.h"

#include <sys/mman.h>

#include <cstring>
#include <new>

namespace relayd::net {

void Chunk::append(std::string_view bytes) {
  std::memcpy(data() + end, bytes.data(), bytes.size());
  end += bytes.size();
}

void Chunk::drop_front(std::size_t count) {
  begin += count;
  std::memmove(data(), data() + begin, end - begin);
  end -= begin;
  begin = 0;
}

ChunkPool::~ChunkPool() {
  for (Chunk* chunk : chunks_) {
    if (chunk != nullptr) unmap(chunk);
  }
  for (Chunk* chunk : spares_) unmap(chunk);
}

Index ChunkPool::borrow() {
  Chunk* chunk = nullptr;
  if (!spares_.empty()) {
    chunk = spares_.back();
    spares_.pop_back();
  } else {
    // Mapped, not malloc'ed: giving it back must give it to the kernel, whatever lies above it on the heap.
    void* memory =
        ::mmap(nullptr, size_ + sizeof(Chunk), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    chunk = new (memory) Chunk{.capacity = size_};
  }
  chunk->begin = chunk->end = 0;
  ++in_use_;
  if (numbers_.empty()) {
    chunks_.push_back(chunk);
    return static_cast<Index>(chunks_.size() - 1);
  }
  const Index index = numbers_.back();
  numbers_.pop_back();
  chunks_[index] = chunk;
  return index;
}

void ChunkPool::give_back(Index index) {
  Chunk* chunk = chunks_[index];
  chunks_[index] = nullptr;
  numbers_.push_back(index);
  --in_use_;
  if (spares_.size() < most_spares_) {
    spares_.push_back(chunk);
  } else {
    unmap(chunk);
  }
}

void ChunkPool::unmap(Chunk* chunk) const { ::munmap(chunk, size_ + sizeof(Chunk)); }

}  // namespace relayd::net
