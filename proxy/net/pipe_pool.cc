#include "proxy/net/pipe_pool.h"

#include <fcntl.h>

namespace relayd::net {

PipePool::~PipePool() {
  for (Pipe& pipe : pipes_) {
    if (pipe.read) close(pipe);
  }
}

Index PipePool::borrow() {
  if (!spares_.empty()) {
    const Index index = spares_.back();
    spares_.pop_back();
    return index;
  }
  if (to_pass_ > 0) {
    --to_pass_;
    return kNone;
  }
  if (numbers_.empty()) {
    if (pipes_.size() >= kMost) return kNone;
    numbers_.push_back(static_cast<Index>(pipes_.size()));
    pipes_.emplace_back();
  }
  if (!open(pipes_[numbers_.back()])) {
    to_pass_ = kPassed;
    return kNone;
  }
  const Index index = numbers_.back();
  numbers_.pop_back();
  return index;
}

void PipePool::give_back(Index index) {
  if (pipes_[index].bytes == 0 && spares_.size() < kSpares) {
    spares_.push_back(index);
    return;
  }
  close(pipes_[index]);
  numbers_.push_back(index);
}

Index PipePool::adopt(Pipe pipe) {
  used_.fetch_add(kDescriptors, std::memory_order_relaxed);
  pipes_.push_back(std::move(pipe));
  return static_cast<Index>(pipes_.size() - 1);
}

bool PipePool::trim() {
  if (spares_.empty()) return false;
  for (const Index index : spares_) {
    close(pipes_[index]);
    numbers_.push_back(index);
  }
  spares_.clear();
  return true;
}

bool PipePool::open(Pipe& pipe) {
  const std::uint64_t before = used_.fetch_add(kDescriptors, std::memory_order_relaxed);
  if (before + kDescriptors <= most_.load(std::memory_order_relaxed)) {
    if (auto ends = make_pipe(O_NONBLOCK)) {
      int capacity = ::fcntl(ends->write.get(), F_SETPIPE_SZ, static_cast<int>(kCapacity));
      if (capacity < 0) capacity = ::fcntl(ends->write.get(), F_GETPIPE_SZ);
      if (capacity >= static_cast<int>(kLeastCapacity)) {
        pipe = {std::move(ends->read), std::move(ends->write), 0};
        return true;
      }
    }
  }
  used_.fetch_sub(kDescriptors, std::memory_order_relaxed);
  return false;
}

void PipePool::close(Pipe& pipe) {
  pipe = Pipe{};
  used_.fetch_sub(kDescriptors, std::memory_order_relaxed);
}

}  // namespace relayd::net
