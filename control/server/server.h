#pragma once

#include <memory>
#include <string>

#include "control/server/commands.h"
#include "control/server/limits.h"
#include "control/server/record.h"
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
  // Goes on where another server was saved, in a process that has its descriptors: the socket and its file
  // stay as they are, and so does every client. Until resume() nothing is read, asked or sent; what is
  // published waits. The path is the record's, whatever the options say. On an error nothing was taken, and
  // the descriptors are still the caller's. A client that cannot be taken is dropped, with a line in the log.
  static Result<std::unique_ptr<Server>> restore(Loop& loop, const ServerOptions& options,
                                                 ServerRecord record, Commands& commands);
  // Asks what had no answer yet again, in order of client and request, sends what was not sent, and reads on.
  virtual void resume() = 0;
  // Where somebody has removed the socket's file (a cleaner of /tmp), or put another in its place that nobody
  // listens at: makes it again, as start() does, and returns true. Clients stay. On an error all is as
  // before.
  virtual Result<bool> bind_again() = 0;
  // What restore() needs. Nothing changes: the server goes on, or its process becomes another executable.
  virtual ServerRecord save() const = 0;
  // Answers what is outstanding with an error, flushes for a moment, closes every client, and removes the
  // socket file if it is still this server's own.
  virtual ~Server() = default;
  // Sends the event to every client that follows.
  virtual void publish(const Event& event) = 0;
};

}  // namespace relayd::control
