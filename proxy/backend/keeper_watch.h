#pragma once

#include <memory>

#include "proxy/backend/keeper.h"
#include "proxy/base/loop.h"

namespace relayd::backend {

// Replaces the keeper when it dies before relayd does (the OOM killer, an operator's hand): the new one is
// told of every process group of relayd's at once, so that backends are unguarded, and new ones refused, for
// a moment only.
class KeeperWatch {
 public:
  // `keeper` outlives this.
  KeeperWatch(Loop& loop, Keeper& keeper);

 private:
  void watch();
  void replace();

  Loop& loop_;
  Keeper& keeper_;
  std::unique_ptr<Poll> poll_;
  Timer retry_;
};

}  // namespace relayd::backend
