#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "proxy/backend/record.h"
#include "proxy/base/address.h"
#include "proxy/base/loop.h"
#include "proxy/config/config.h"

// One instance of one generation: its address, its readiness and its end. Instance is a process of relayd's
// own, with its environment and process group; an address that somebody else runs is a Target (target.h).
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
  pid_t pid = 0;  // 0: a target, which relayd has only let go
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
  // Of a target that was ready: it is at other addresses now, or more or fewer of them are well.
  std::function<void()> addresses_changed = nullptr;
  // Of a target: for people and `events`, by its type there.
  std::function<void(const std::string& type, const std::string& text)> told = nullptr;
};

// What whoever drives instances needs of one, whoever runs it.
class AnyInstance {
 public:
  AnyInstance() = default;
  virtual ~AnyInstance() = default;
  AnyInstance(const AnyInstance&) = delete;
  AnyInstance& operator=(const AnyInstance&) = delete;

  virtual Result<void> start() = 0;
  // For an upgrade of relayd. save() changes nothing; in the next image resume() takes the place of start(),
  // and owns the record's descriptors. What is no record of its kind is an error.
  virtual InstanceRecord save() const = 0;
  virtual Result<void> resume(const InstanceRecord& record) = 0;
  virtual void stop() = 0;
  virtual void kill() = 0;
  virtual bool alive() const = 0;
  virtual pid_t pid() const = 0;  // 0: none of relayd's
  // The first of addresses(), or unspecified where there is none.
  virtual const SocketAddress& address() const = 0;
  // Where it takes connections.
  virtual std::vector<SocketAddress> addresses() const = 0;
  // As it was named, "app.internal:8000"; empty for a process.
  virtual std::string target() const = 0;
  // With `address: activation`, its socket: to be kept until no process of this place will be started again.
  virtual std::shared_ptr<const Descriptor> listening() const = 0;
  virtual std::string last_stderr() const = 0;
  virtual std::string last_check_error() const = 0;
  virtual std::string status_text() const = 0;
};

class Instance final : public AnyInstance {
 public:
  // `listening`: with `address: activation`, the socket of the process before it, in whose queue connections
  // may wait; null: a new one.
  Instance(Context& context, std::shared_ptr<const Definition> definition, std::uint32_t generation,
           std::uint16_t index, InstanceEvents events, std::shared_ptr<const Descriptor> listening = nullptr);
  // Kills the whole group if it still runs.
  ~Instance() override;

  // Allocates the address, spawns, begins to check. The error names stage and errno ("exec gunicorn: No such
  // file …").
  Result<void> start() override;
  InstanceRecord save() const override;
  Result<void> resume(const InstanceRecord& record) override;
  // Sends stop_signal to the process itself, not to its group (workers that die on a signal meant for their
  // master lose requests); ends the checks. KILL after kill_timeout is the caller's.
  void stop() override;
  // KILL to the whole process group.
  void kill() override;
  // True while the process has not ended, asked of the kernel now.
  bool alive() const override;

  pid_t pid() const override;
  // Of the socket it listens on; with `address: handoff` the first public one.
  const SocketAddress& address() const override;
  std::vector<SocketAddress> addresses() const override { return {address()}; }
  std::string target() const override { return ""; }
  std::shared_ptr<const Descriptor> listening() const override;
  // For messages: the end of what it wrote to standard error (at most about 2 KiB, whole lines), and the last
  // check's error.
  std::string last_stderr() const override;
  std::string last_check_error() const override;
  std::string status_text() const override;  // STATUS= of sd_notify

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace relayd::backend
