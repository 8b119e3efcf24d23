#pragma once

#include <sys/types.h>

#include <optional>
#include <string>
#include <vector>

#include "proxy/base/error.h"

namespace relayd::backend {

// Who a process runs as: everything that initgroups(3) and its kin would look up, looked up before the fork.
struct Identity {
  uid_t uid = 0;
  gid_t gid = 0;
  std::vector<gid_t> groups;  // supplementary, `gid` included
  std::string name;           // empty where the user is only known by number
  std::string home;
};

// From names or numbers; an empty `user` means relayd's own user, an empty `group` the user's primary one.
// Nothing where both are empty: the process stays who relayd is. May read files or ask the network (NSS); the
// main thread waits.
Result<std::optional<Identity>> find_identity(const std::string& user, const std::string& group);

}  // namespace relayd::backend
