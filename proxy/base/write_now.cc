#include "proxy/base/write_now.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <climits>
#include <string>

#include "proxy/base/descriptor.h"

namespace relayd {
namespace {

// A non-blocking description of our own of the same pipe or terminal: another writer may fill it between
// poll(2) and write(2), and a terminal that is writable may still take less than is written. Invalid without
// /proc, or where the file is another user's.
Descriptor open_again(int fd) {
  const std::string path = "/proc/self/fd/" + std::to_string(fd);
  return Descriptor(::open(path.c_str(), O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
}

}  // namespace

ssize_t write_now(int fd, std::string_view data) {
  const ssize_t sent = ::send(fd, data.data(), data.size(), MSG_DONTWAIT | MSG_NOSIGNAL);  // journald's
  if (sent >= 0 || errno != ENOTSOCK) return sent;
  pollfd entry{fd, POLLOUT, 0};
  if (::poll(&entry, 1, 0) <= 0) {
    errno = EAGAIN;
    return -1;
  }
  if ((entry.revents & POLLOUT) == 0 || (entry.revents & POLLERR) != 0) {
    errno = EPIPE;  // writing would raise SIGPIPE
    return -1;
  }
  struct stat info {};
  const bool can_fill = ::fstat(fd, &info) == 0 && (S_ISFIFO(info.st_mode) || S_ISCHR(info.st_mode));
  const Descriptor own = can_fill ? open_again(fd) : Descriptor();
  // A pipe that poll(2) calls writable takes PIPE_BUF without waiting.
  return ::write(own ? own.get() : fd, data.data(), std::min<std::size_t>(data.size(), PIPE_BUF));
}

}  // namespace relayd
