#include "control/server/peer.h"

#include <grp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <vector>

namespace relayd::control {

Result<Peer> peer_of(int fd) {
  ucred credentials{};
  socklen_t length = sizeof credentials;
  if (::getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &credentials, &length) != 0) {
    return fail_errno("cannot see who connects to the control socket");
  }
  return Peer{credentials.pid, credentials.uid, credentials.gid};
}

bool is_connection(int fd) {
  const auto option = [fd](int name) {
    int value = -1;
    socklen_t length = sizeof value;
    return ::getsockopt(fd, SOL_SOCKET, name, &value, &length) == 0 ? value : -1;
  };
  return option(SO_DOMAIN) == AF_UNIX && option(SO_TYPE) == SOCK_STREAM && option(SO_ACCEPTCONN) == 0;
}

// SO_PEERGROUPS (Linux 4.13) is what the kernel itself goes by; a look into the user database could block the
// loop.
static bool has_further_group(int fd, gid_t group) {
  std::vector<gid_t> groups(64);
  socklen_t length = groups.size() * sizeof(gid_t);
  int status = ::getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &length);
  if (status != 0 && errno == ERANGE) {
    groups.resize(length / sizeof(gid_t));
    status = ::getsockopt(fd, SOL_SOCKET, SO_PEERGROUPS, groups.data(), &length);
  }
  if (status != 0) return false;
  groups.resize(length / sizeof(gid_t));
  return std::ranges::find(groups, group) != groups.end();
}

bool permitted(int fd, const Peer& peer, std::optional<gid_t> group) {
  if (peer.uid == 0 || peer.uid == ::geteuid()) return true;
  return group && (peer.gid == *group || has_further_group(fd, *group));
}

Result<gid_t> group_by_name(const std::string& name) {
  ::group entry{};
  ::group* found = nullptr;
  std::vector<char> text(16384);
  int status = ERANGE;
  while ((status = ::getgrnam_r(name.c_str(), &entry, text.data(), text.size(), &found)) == ERANGE) {
    text.resize(text.size() * 2);
  }
  if (found != nullptr) return found->gr_gid;
  gid_t number = 0;
  const auto [end, wrong] = std::from_chars(name.data(), name.data() + name.size(), number);
  if (wrong == std::errc{} && end == name.data() + name.size()) return number;
  return fail("control.group: there is no group \"" + name +
                  "\" on this machine; give one of /etc/group, or its number",
              status);
}

}  // namespace relayd::control
