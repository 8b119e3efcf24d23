#include "proxy/base/socket_file.h"

#include <sys/stat.h>
#include <unistd.h>

namespace relayd {

SocketFile::SocketFile(std::string path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) == 0) {
    identity_ = {.path = {}, .device = status.st_dev, .inode = status.st_ino};
  }
  identity_.path = std::move(path);
}

SocketFile::SocketFile(SocketFile&& other) noexcept : identity_(std::exchange(other.identity_, {})) {}

SocketFile& SocketFile::operator=(SocketFile&& other) noexcept {
  if (this != &other) {
    remove();
    identity_ = std::exchange(other.identity_, {});
  }
  return *this;
}

bool SocketFile::is_there() const {
  struct stat status {};
  return ::lstat(identity_.path.c_str(), &status) == 0 && status.st_dev == identity_.device &&
         status.st_ino == identity_.inode;
}

void SocketFile::remove() {
  if (!identity_.path.empty() && is_there()) ::unlink(identity_.path.c_str());
}

}  // namespace relayd
