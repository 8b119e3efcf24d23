#pragma once

#include <sys/resource.h>
#include <sys/types.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "proxy/backend/identity.h"
#include "proxy/base/descriptor.h"
#include "proxy/base/error.h"

namespace relayd::backend {

// A process to start, with everything looked up.
struct Program {
  std::vector<std::string> command;  // not empty; command[0] is searched in env's PATH unless it has a slash
  std::map<std::string, std::string> env;  // the whole environment
  std::string directory;                   // empty: relayd's own
  std::optional<Identity> identity;        // none: relayd's own
  std::optional<rlimit> nofile;            // none: relayd's present limits
};

// A listening socket for the new process, which the caller keeps. Its O_NONBLOCK is shared with the process.
struct PassedSocket {
  int fd = -1;
  std::string name;  // in LISTEN_FDNAMES; without a colon
};

// Descriptors for the new process, which the caller keeps; -1: relayd's own. Standard input is always
// /dev/null. With sockets, they are 3, 4, … in their order, and the environment gets LISTEN_FDS,
// LISTEN_FDNAMES and LISTEN_PID, the process's own number (sd_listen_fds(3)). Nothing else is passed.
struct Streams {
  int output = -1;
  int error = -1;
  std::vector<PassedSocket> sockets = {};
};

struct Spawned {
  pid_t pid = -1;  // and the number of its process group
  Descriptor pidfd;
};

// Forks and executes, as leader of a process group of its own that is registered with the keeper before the
// exec, and that dies with relayd. Call from the main thread: the process is killed when the *thread* that
// started it ends (PR_SET_PDEATHSIG). Waits until the exec has happened. Nothing is left of a process that
// fails before it: the error names the stage and errno, "exec gunicorn: No such file or directory (ENOENT)".
Result<Spawned> spawn(const Program& program, const Streams& streams, int keeper_channel);

}  // namespace relayd::backend
