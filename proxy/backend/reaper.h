#pragma once

#include <memory>

#include "proxy/base/loop.h"

namespace relayd::backend {

// Reaps the processes that the kernel gives to relayd because their parents are gone: as PID 1 of a
// container, or as a subreaper. relayd's own children keep their exit status: their owners (own_children.h)
// reap them.
class OrphanReaper {
 public:
  // True where orphans come to this process.
  static bool needed();
  // Watches SIGCHLD; a first look is taken when the loop runs. Throws std::runtime_error. What it calls are
  // the owners of own children, whose callbacks may do anything but destroy this.
  explicit OrphanReaper(Loop& loop);

 private:
  void sweep();

  Signal signal_;
  Timer soon_;
};

}  // namespace relayd::backend
