#pragma once

#include <utility>
#include <vector>

#include "proxy/base/error.h"

namespace relayd {

// Owns one file descriptor and closes it. Movable, never copied; -1 means none.
class Descriptor {
 public:
  Descriptor() = default;
  explicit Descriptor(int fd) : fd_(fd) {}
  Descriptor(Descriptor&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
  Descriptor& operator=(Descriptor&& other) noexcept {
    if (this != &other) reset(std::exchange(other.fd_, -1));
    return *this;
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  ~Descriptor() { reset(); }

  int get() const { return fd_; }
  bool valid() const { return fd_ >= 0; }
  explicit operator bool() const { return valid(); }
  // Gives the descriptor up: the caller owns it from here.
  [[nodiscard]] int release() { return std::exchange(fd_, -1); }
  void reset(int fd = -1);

 private:
  int fd_ = -1;
};

// For the moment in which relayd takes another image's place (proxy/upgrade/take_over.h): these descriptors
// are not closed by whoever owns them, as they may have to go back. An empty list ends that. Main thread,
// without others.
void keep_open(const std::vector<int>& descriptors);
bool is_taken_over(int fd);  // it is one of them

// Both ends of a pipe(2) made close-on-exec; extra flags (O_NONBLOCK, O_DIRECT) apply to both ends.
struct PipeEnds {
  Descriptor read;
  Descriptor write;
};
Result<PipeEnds> make_pipe(int extra_flags = 0);

// Sets or clears O_NONBLOCK. The flag belongs to the open file description: whoever shares it sees the
// change.
Result<void> set_nonblocking(int fd, bool on);

// Whether a read of a connected socket or a pipe would give bytes now.
bool has_bytes(int fd);

}  // namespace relayd
