#pragma once

#include <functional>
#include <memory>

#include "proxy/backend/instance.h"
#include "proxy/backend/spawn.h"
#include "proxy/base/loop.h"

namespace relayd::backend {

// Owns one process started by relayd and its process group, from the spawn until both are gone. Watched by
// pidfd: after an upgrade by exec relayd has to watch children that libuv has not spawned.
class Child {
 public:
  // `exited` runs on the loop, once, after the rest of the group has been killed and the process reaped; the
  // Child may be destroyed inside it. `keeper` outlives the Child.
  static Result<std::unique_ptr<Child>> start(Loop& loop, Keeper& keeper, const Program& program,
                                              const Streams& streams,
                                              std::function<void(const ExitReport&)> exited);
  // Of a process that a former image of relayd has started, and this one is the parent of. Where it has ended
  // meanwhile, `exited` tells so. Throws std::runtime_error where it cannot be watched.
  static std::unique_ptr<Child> adopt(Loop& loop, Keeper& keeper, pid_t pid, Descriptor pidfd,
                                      std::function<void(const ExitReport&)> exited);
  // Kills the group if the process has not been reaped.
  ~Child();
  Child(const Child&) = delete;
  Child& operator=(const Child&) = delete;

  pid_t pid() const { return pid_; }
  int pidfd() const { return pidfd_.get(); }
  // Asked of the kernel now; false also before `exited` has run.
  bool alive() const;
  // To the process alone.
  void signal(int number);
  // KILL to the process and its group; nothing once it has been reaped.
  void kill_group();

 private:
  Child(Keeper& keeper, Spawned spawned, std::function<void(const ExitReport&)> exited);
  static Result<std::unique_ptr<Child>> watch(Loop& loop, Keeper& keeper, Spawned spawned,
                                              std::function<void(const ExitReport&)> exited);
  void on_end();

  Keeper& keeper_;
  const pid_t pid_;
  Descriptor pidfd_;
  std::function<void(const ExitReport&)> exited_;
  std::unique_ptr<Poll> watch_;
  bool reaped_ = false;
};

// Ends a process, and its group, that a former image of relayd had started for a purpose that is gone. It is
// reaped when it has ended.
void end_stray(Keeper& keeper, pid_t pid);

}  // namespace relayd::backend
