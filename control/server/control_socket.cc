#include "control/server/control_socket.h"

#include <sys/stat.h>
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

Result<ControlSocket> ControlSocket::create(const ServerOptions& options, std::optional<gid_t> group) {
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
  ControlSocket made(std::move(*fd), SocketFile(path));
  if (group && ::lchown(path.c_str(), static_cast<uid_t>(-1), *group) != 0) {
    return fail_errno("control socket " + path + ": cannot give it to group \"" + options.group + "\"");
  }
  const mode_t mode = (options.mode & 0777) | (group ? S_IRGRP | S_IWGRP : 0);
  if (::chmod(path.c_str(), mode) != 0) return fail_errno("control socket " + path + ": cannot set its mode");
  if (::listen(made.fd(), kBacklog) != 0) return fail_errno("control socket " + path);
  return made;
}

Result<ControlSocket> ControlSocket::adopt(const ServerRecord& record) {
  const std::string what = "control socket " + record.file.path + ": descriptor " + std::to_string(record.fd);
  int listens = 0;
  socklen_t length = sizeof listens;
  if (::getsockopt(record.fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &length) != 0) return fail_errno(what);
  sockaddr_un bound{};
  length = sizeof bound;
  if (::getsockname(record.fd, reinterpret_cast<sockaddr*>(&bound), &length) != 0) return fail_errno(what);
  const auto address = SocketAddress::unix_path(record.file.path);
  if (!address) return std::unexpected(address.error());
  if (listens == 0 || length != address->length() || std::memcmp(&bound, address->get(), length) != 0) {
    return fail(what + " is another socket, or does not listen");
  }
  return ControlSocket(Descriptor(record.fd), SocketFile(record.file));
}

void ControlSocket::save(ServerRecord& record) const {
  record.fd = socket_.get();
  record.file = file_.identity();
}

void ControlSocket::disown() {
  static_cast<void>(socket_.release());
  file_.disown();
}

}  // namespace relayd::control
