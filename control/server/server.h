#pragma once

#include <memory>
#include <string>

#include "control/server/commands.h"
#include "control/server/limits.h"
#include "proxy/base/loop.h"

namespace relayd::control {

struct ServerOptions {
  std::string socket_path;  // its folder exists
  unsigned mode = 0600;
  std::string group;  // its members may connect too; empty: none
  Limits limits;
};

// The control socket: JSON-RPC 2.0, one message a line, over a Unix stream socket. Peers are checked by
// SO_PEERCRED: root, relayd's own user, and members of `group`. Clients, message sizes and unsent output are
// bounded; a client that breaks a rule gets an error and is closed, and nobody else notices.
class Server {
 public:
  // Replaces a stale socket file; a live one (another relayd) is an error that says so. The file never has
  // wider permissions than `mode`, to which reading and writing for the group are added where `group` is
  // given.
  static Result<std::unique_ptr<Server>> start(Loop& loop, const ServerOptions& options, Commands& commands);
  // Answers what is outstanding with an error, flushes for a moment, closes every client, and removes the
  // socket file if it is still this server's own.
  virtual ~Server() = default;
  // Sends the event to every client that follows.
  virtual void publish(const Event& event) = 0;
};

}  // namespace relayd::control
