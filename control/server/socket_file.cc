#include "control/server/socket_file.h"

#include <sys/un.h>
#include <unistd.h>

#include <cstring>

#include "proxy/base/address.h"

namespace relayd::control {
namespace {

constexpr int kBacklog = 128;

Result<Descriptor> unix_socket() {
  Descriptor fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return fail_errno("cannot make the control socket");
  return fd;
}

// Leaves the path free, or says why it cannot be: what is there may be alive, or no socket at all.
Result<void> clear_stale(const std::string& path, const SocketAddress& address) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) {
    if (errno == ENOENT) return {};
    return fail_errno("control socket " + path);
  }
  if (!S_ISSOCK(status.st_mode)) {
    return fail("control socket " + path +
                    ": a file that is no socket is in the way; remove it, or set control.socket",
                EEXIST);
  }
  auto probe = unix_socket();
  if (!probe) return std::unexpected(probe.error());
  // EAGAIN is a full backlog: somebody listens.
  if (::connect(probe->get(), address.get(), address.length()) == 0 || errno == EAGAIN) {
    return fail("another relayd answers at " + path + "; stop it (relayctl stop), or set control.socket",
                EADDRINUSE);
  }
  if (errno == ENOENT) return {};
  if (errno != ECONNREFUSED)
    return fail_errno("control socket " + path + ": cannot tell whether it is in use");
  if (::unlink(path.c_str()) != 0 && errno != ENOENT) {
    return fail_errno("control socket " + path + ": cannot remove the stale file");
  }
  return {};
}

}  // namespace

Result<SocketFile> SocketFile::create(const ServerOptions& options, std::optional<gid_t> group) {
  const std::string& path = options.socket_path;
  const auto address = SocketAddress::unix_path(path);
  if (!address) return std::unexpected(address.error());
  if (auto cleared = clear_stale(path, *address); !cleared) return std::unexpected(cleared.error());
  auto fd = unix_socket();
  if (!fd) return std::unexpected(fd.error());

  // bind(2) gives the file the mode of the socket's own inode, less the umask. So it is born for its owner
  // alone, and gets its group before the group gets any right; the process-wide umask is left alone.
  if (::fchmod(fd->get(), S_IRUSR | S_IWUSR) != 0) return fail_errno("control socket " + path);
  if (::bind(fd->get(), address->get(), address->length()) != 0) return fail_errno("control socket " + path);
  SocketFile file(std::move(*fd), path);
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) return fail_errno("control socket " + path);
  file.device_ = status.st_dev;
  file.inode_ = status.st_ino;
  if (group && ::lchown(path.c_str(), static_cast<uid_t>(-1), *group) != 0) {
    return fail_errno("control socket " + path + ": cannot give it to group \"" + options.group + "\"");
  }
  const mode_t mode = (options.mode & 0777) | (group ? S_IRGRP | S_IWGRP : 0);
  if (::chmod(path.c_str(), mode) != 0) return fail_errno("control socket " + path + ": cannot set its mode");
  if (::listen(file.fd(), kBacklog) != 0) return fail_errno("control socket " + path);
  return file;
}

Result<SocketFile> SocketFile::adopt(const ServerRecord& record) {
  const std::string what = "control socket " + record.path + ": descriptor " + std::to_string(record.fd);
  int listens = 0;
  socklen_t length = sizeof listens;
  if (::getsockopt(record.fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &length) != 0) return fail_errno(what);
  sockaddr_un bound{};
  length = sizeof bound;
  if (::getsockname(record.fd, reinterpret_cast<sockaddr*>(&bound), &length) != 0) return fail_errno(what);
  const auto address = SocketAddress::unix_path(record.path);
  if (!address) return std::unexpected(address.error());
  if (listens == 0 || length != address->length() || std::memcmp(&bound, address->get(), length) != 0) {
    return fail(what + " is another socket, or does not listen");
  }
  SocketFile file(Descriptor(record.fd), record.path);
  file.device_ = record.device;
  file.inode_ = record.inode;
  return file;
}

void SocketFile::save(ServerRecord& record) const {
  record.fd = socket_.get();
  record.path = path_;
  record.device = device_;
  record.inode = inode_;
}

bool SocketFile::is_there() const {
  struct stat status {};
  return ::lstat(path_.c_str(), &status) == 0 && status.st_dev == device_ && status.st_ino == inode_;
}

void SocketFile::replace(SocketFile&& by) {
  socket_ = std::move(by.socket_);
  device_ = by.device_;
  inode_ = by.inode_;
}

SocketFile::~SocketFile() {
  if (socket_ && is_there()) ::unlink(path_.c_str());
}

}  // namespace relayd::control
