#pragma once

#include <sys/types.h>

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "proxy/base/address.h"

// What the instances of this relayd, and its keeper, leave to the next image of relayd, which goes on with
// them: plain data, with descriptors as numbers that nobody owns (-1: none).
namespace relayd::backend {

struct HealthState {
  enum class Standing : std::uint8_t { kStarting, kWell, kUnwell };
  Standing standing = Standing::kStarting;
  bool believed = false;  // ready by READY=1
  int failures = 0;       // in a row
  int tries = 0;          // before ready
  std::string last_error;
};

struct ProcessState {
  pid_t pid = 0;
  int pidfd = -1;
  SocketAddress address;
  std::uint16_t port = 0;  // leased; 0: none
  std::string folder;      // of its Unix socket; empty: none
  int folder_lock = -1;
  int notify = -1;
  std::string notify_address;
  int stderr_pipe = -1;  // -1: the process has closed it
  std::string stderr_tail;
  std::string stderr_pending;  // read, and not passed on yet
  std::string status_text;
  std::string last_check_error;       // after the checks have ended
  std::optional<HealthState> health;  // none: it was told to stop
  struct User {                       // whom it runs as, as it was looked up then
    std::uint32_t uid = 0;
    std::uint32_t gid = 0;
    std::vector<std::uint32_t> groups;
    std::string name;
    std::string home;
  };
  std::optional<User> user;  // since version 2
};

struct TargetState {
  struct Place {
    SocketAddress address;
    std::string error;
    bool well = false;
    bool tried = false;
    bool leaving = false;
    HealthState health;
  };
  std::vector<Place> places;
  std::vector<SocketAddress> serving;
  SocketAddress first;
  bool was_ready = false;
  bool ended = false;  // `exited` is still to be told
  std::string final_error;
  std::string unresolved;
};

// One of both.
struct InstanceRecord {
  std::optional<ProcessState> process;
  std::optional<TargetState> target;
};

struct KeeperRecord {
  pid_t pid = -1;
  int channel = -1;
  int pidfd = -1;
};

}  // namespace relayd::backend
