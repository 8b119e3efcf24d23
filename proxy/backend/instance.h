#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "proxy/base/address.h"
#include "proxy/base/loop.h"
#include "proxy/config/config.h"

// One process of one generation: its address, its environment, its process group, its readiness and its end.
namespace relayd::backend {

class Keeper;

// What every instance of this relayd shares. Outlives all instances.
struct Context {
  Loop& loop;
  Keeper& keeper;
  std::string runtime_directory;  // for `socket` addresses; exists, ours
  // RLIMIT_NOFILE as relayd was started with: what children get by default.
  std::uint64_t original_nofile_soft;
  std::uint64_t original_nofile_hard;
};

// A public listening socket that the instances get as it is (address: handoff).
struct PublicSocket {
  std::string name;  // in LISTEN_FDNAMES
  SocketAddress address;
  std::shared_ptr<const Descriptor> socket;
};

// The definition of a generation, fixed when it is made: what a restart of an instance, or a return to this
// definition after a failed hot rollover, starts again.
struct Definition {
  config::Service service;
  std::map<std::string, std::string> env;  // backend.env + env_file as read then + --env; later ones win
  std::vector<PublicSocket> sockets = {};  // handoff only; open as long as this may be started
};

struct ExitReport {
  pid_t pid = 0;
  bool signaled = false;
  int status = 0;                // exit status, or the signal's number
  std::string describe() const;  // "exit status 3", "killed by SIGKILL"
};

// Callbacks run on the loop, never inside start(), stop() or kill(). The instance may be destroyed inside any
// of them.
struct InstanceEvents {
  // The first time that the check passed; never after exited.
  std::function<void()> ready;
  // Was ready; three checks in a row failed: the last error.
  std::function<void(const std::string&)> unhealthy;
  // Is well again.
  std::function<void()> healthy;
  // The last event; the rest of its process group has been killed.
  std::function<void(const ExitReport&)> exited;
};

class Instance {
 public:
  // `listening`: with `address: activation`, the socket of the process before it, in whose queue connections
  // may wait; null: a new one.
  Instance(Context& context, std::shared_ptr<const Definition> definition, std::uint32_t generation,
           std::uint16_t index, InstanceEvents events, std::shared_ptr<const Descriptor> listening = nullptr);
  // Kills the whole group if it still runs.
  ~Instance();
  Instance(const Instance&) = delete;
  Instance& operator=(const Instance&) = delete;

  // Allocates the address, spawns, begins to check. The error names stage and errno ("exec gunicorn: No such
  // file …").
  Result<void> start();
  // Sends stop_signal to the process itself, not to its group (workers that die on a signal meant for their
  // master lose requests); ends the checks. KILL after kill_timeout is the caller's.
  void stop();
  // KILL to the whole process group.
  void kill();
  // True while the process has not ended, asked of the kernel now.
  bool alive() const;

  pid_t pid() const;
  // Of the socket it listens on; with `address: handoff` the first public one.
  const SocketAddress& address() const;
  // With `address: activation`, its socket: to be kept until no process of this place will be started again.
  std::shared_ptr<const Descriptor> listening() const;
  // For messages: the end of what it wrote to standard error (at most about 2 KiB, whole lines), and the last
  // check's error.
  std::string last_stderr() const;
  std::string last_check_error() const;
  std::string status_text() const;  // STATUS= of sd_notify

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace relayd::backend
