#include "proxy/net/chunk_pool.h"

#include <sys/mman.h>

#include <new>

namespace relayd::net {

ChunkPool::~ChunkPool() {
  for (Chunk* chunk : chunks_) {
    if (chunk != nullptr) ::munmap(chunk, sizeof(Chunk));
  }
  for (Chunk* chunk : spares_) ::munmap(chunk, sizeof(Chunk));
}

Index ChunkPool::borrow() {
  Chunk* chunk = nullptr;
  if (!spares_.empty()) {
    chunk = spares_.back();
    spares_.pop_back();
  } else {
    // Mapped, not malloc'ed: giving it back must give it to the kernel, whatever lies above it on the heap.
    void* memory = ::mmap(nullptr, sizeof(Chunk), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) throw std::bad_alloc();
    chunk = new (memory) Chunk;
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
  if (spares_.size() < kSpares) {
    spares_.push_back(chunk);
  } else {
    ::munmap(chunk, sizeof(Chunk));
  }
}

}  // namespace relayd::net
