#include "proxy/base/descriptor.h"

#include <fcntl.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>

namespace relayd {

namespace {

std::vector<bool> kept_open;  // by number

}  // namespace

void keep_open(const std::vector<int>& descriptors) {
  kept_open.clear();
  for (const int fd : descriptors) {
    if (fd < 0) continue;
    if (kept_open.size() <= static_cast<std::size_t>(fd)) kept_open.resize(static_cast<std::size_t>(fd) + 1);
    kept_open[static_cast<std::size_t>(fd)] = true;
  }
}

bool is_taken_over(int fd) {
  return fd >= 0 && static_cast<std::size_t>(fd) < kept_open.size() &&
         kept_open[static_cast<std::size_t>(fd)];
}

void Descriptor::reset(int fd) {
  if (fd_ >= 0 && fd_ != fd && (kept_open.empty() || !is_taken_over(fd_)))
    ::close(fd_);  // on Linux the descriptor is gone even after EINTR (close(2))
  fd_ = fd;
}

Result<PipeEnds> make_pipe(int extra_flags) {
  int fds[2];
  if (::pipe2(fds, O_CLOEXEC | extra_flags) != 0) return fail_errno("cannot make a pipe");
  return PipeEnds{Descriptor(fds[0]), Descriptor(fds[1])};
}

Result<void> set_nonblocking(int fd, bool on) {
  const int flags = ::fcntl(fd, F_GETFL);
  if (flags < 0) return fail_errno("cannot read the flags of a descriptor");
  const int wanted = on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK;
  if (wanted != flags && ::fcntl(fd, F_SETFL, wanted) != 0)
    return fail_errno("cannot set the flags of a descriptor");
  return {};
}

bool has_bytes(int fd) {
  int bytes = 0;
  return ::ioctl(fd, FIONREAD, &bytes) == 0 && bytes > 0;
}

}  // namespace relayd
