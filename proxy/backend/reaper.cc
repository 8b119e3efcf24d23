#include "proxy/backend/reaper.h"

#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>

#include "proxy/backend/own_children.h"
#include "proxy/base/log.h"

namespace relayd::backend {
namespace {

constexpr int kMaxPerSweep =
    1000;  // so that a storm of dying orphans cannot keep the loop from everything else

}  // namespace

bool OrphanReaper::needed() {
  int subreaper = 0;
  return ::getpid() == 1 || (::prctl(PR_GET_CHILD_SUBREAPER, &subreaper) == 0 && subreaper != 0);
}

OrphanReaper::OrphanReaper(Loop& loop) : signal_(loop, SIGCHLD, [this] { sweep(); }), soon_(loop) {
  soon_.start(Duration::zero(), [this] { sweep(); });  // what ended before the signal was watched
}

void OrphanReaper::sweep() {
  for (int i = 0; i < kMaxPerSweep; ++i) {
    siginfo_t info{};
    if (::waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) != 0) {
      if (errno == EINTR) continue;
      return;  // ECHILD: there are no children at all
    }
    const pid_t pid = info.si_pid;
    if (pid == 0) return;
    if (!own_children::reap(pid)) {
      ::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG);
      log::debug("reaped an orphan", {{"pid", static_cast<std::int64_t>(pid)}});
    } else if (own_children::contains(pid)) {
      break;  // its owner could not reap it: the same zombie would come up for ever
    }
  }
  soon_.start(Duration(100), [this] { sweep(); });
}

}  // namespace relayd::backend
