#pragma once

#include <string>

#include "proxy/base/error.h"

namespace relayd {

// Where a running relayd keeps its control socket and the sockets of its instances.
//
// The first that applies: $RUNTIME_DIRECTORY (systemd; its first entry), /run/relayd for root,
// $XDG_RUNTIME_DIR/relayd where that folder is this user's own, else /tmp/relayd-<uid>, a 0700 folder of this
// user's own: one that is a symbolic link, belongs to somebody else or is open to others is refused, for
// anybody can make it in /tmp.
//
// `create` (relayd): makes the folder where it is missing. Without (relayctl): nothing is made, and of the
// places above and /run/relayd the first that has a relayd.sock in it is taken, so that a member of
// control.group finds the relayd that root started. Errors name the folder, the errno and the cure.
Result<std::string> runtime_directory(bool create);

// relayd.sock in it: for relayd (`for_client` false), or for relayctl.
Result<std::string> default_control_socket(bool for_client);

// What runtime_directory() takes from its surroundings, so that a test can give its own.
struct RuntimePlaces {
  std::string systemd;  // $RUNTIME_DIRECTORY, or empty
  std::string xdg;      // $XDG_RUNTIME_DIR, or empty
  std::string system;   // /run/relayd
  std::string shared;   // /tmp
  bool root = false;
};
Result<std::string> runtime_directory_in(const RuntimePlaces& places, bool create);

}  // namespace relayd
