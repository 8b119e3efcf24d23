#pragma once

#include <sys/types.h>

#include <optional>
#include <string>

#include "proxy/base/error.h"

namespace relayd::control {

// The process at the other end of a Unix socket, as the kernel saw it connect.
struct Peer {
  pid_t pid = 0;
  uid_t uid = 0;
  gid_t gid = 0;
};
Result<Peer> peer_of(int fd);
// Whether it is a Unix stream socket, and none that listens.
bool is_connection(int fd);

// Root, this process's own user, and those who have `group` as their group or among their further groups.
bool permitted(int fd, const Peer& peer, std::optional<gid_t> group);

// The number of a group, given by name or by number.
Result<gid_t> group_by_name(const std::string& name);

}  // namespace relayd::control
