#include "proxy/backend/keeper_watch.h"

#include <vector>

#include "proxy/backend/own_children.h"
#include "proxy/base/log.h"

namespace relayd::backend {
namespace {

constexpr Duration kRetry{1000};  // after a failed fork, which has to do with the whole machine

}  // namespace

KeeperWatch::KeeperWatch(Loop& loop, Keeper& keeper) : loop_(loop), keeper_(keeper), retry_(loop) { watch(); }

void KeeperWatch::watch() {
  auto poll = Poll::create(loop_, keeper_.pidfd(), UV_READABLE, [this](int) { replace(); });
  if (poll) {
    poll_ = std::move(*poll);
    return;
  }
  log::warn("cannot watch relayd-keeper; its death would not be noticed", {{"error", poll.error().message}});
}

void KeeperWatch::replace() {
  if (!keeper_.dead()) return;
  poll_.reset();  // before its descriptor is closed
  std::vector<pid_t> groups;
  for (const pid_t pid : own_children::all()) {
    if (pid != keeper_.pid()) groups.push_back(pid);
  }
  const auto done = keeper_.restart(groups);
  if (!done) {
    log::error(
        "relayd-keeper has died and cannot be started again; backends would outlive a kill -9 of relayd",
        {{"error", done.error().message}});
    retry_.start(kRetry, [this] { replace(); });
    return;
  }
  log::warn("relayd-keeper had died and was started again",
            {{"pid", static_cast<std::int64_t>(keeper_.pid())},
             {"groups", static_cast<std::uint64_t>(groups.size())}});
  watch();
}

}  // namespace relayd::backend
