#include "proxy/net/chunk_pool.h"

#include <sys/mman.h>

#include <cstring>
#include <new>
#include <utility>

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
  for (const auto& row : chunks_) {
    for (Index i = 0; i < kRow; ++i) {
      if (row[i].memory != nullptr) unmap(row[i].memory);
    }
  }
  for (char* memory : spares_) unmap(memory);
}

Index ChunkPool::borrow() {
  if (numbers_.empty()) add_row();
  char* memory = nullptr;
  if (!spares_.empty()) {
    memory = spares_.back();
    spares_.pop_back();
  } else {
    // Mapped, not malloc'ed: giving it back must give it to the kernel, whatever lies above it on the heap.
    void* mapped = ::mmap(nullptr, size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (mapped == MAP_FAILED) throw std::bad_alloc();
    memory = static_cast<char*>(mapped);
  }
  const Index index = numbers_.back();
  numbers_.pop_back();
  (*this)[index] = {.capacity = size_, .memory = memory};
  ++in_use_;
  return index;
}

void ChunkPool::give_back(Index index) {
  char* const memory = std::exchange((*this)[index].memory, nullptr);
  numbers_.push_back(index);
  --in_use_;
  if (spares_.size() < most_spares_) {
    spares_.push_back(memory);
  } else {
    unmap(memory);
  }
}

void ChunkPool::add_row() {
  const Index first = static_cast<Index>(chunks_.size()) * kRow;
  chunks_.push_back(std::make_unique<Chunk[]>(kRow));
  for (Index i = kRow; i-- > 0;) numbers_.push_back(first + i);
}

void ChunkPool::unmap(char* memory) const { ::munmap(memory, size_); }

}  // namespace relayd::net
