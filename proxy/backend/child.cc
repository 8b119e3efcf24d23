#include "proxy/backend/child.h"

#include <poll.h>
#include <sys/wait.h>

#include <cerrno>
#include <csignal>
#include <stdexcept>
#include <string>

#include "proxy/backend/keeper.h"
#include "proxy/backend/own_children.h"
#include "proxy/backend/pidfd.h"

namespace relayd::backend {
namespace {

// How long a destructor waits for a process that it has killed: SIGKILL takes well under a millisecond unless
// the process is in an uninterruptible call or gives back very much memory; then it is reaped later.
constexpr int kReapPatienceMs = 20;

// Some room is left for groups that are registered twice for a moment, when the keeper is replaced.
constexpr std::size_t kMaxProcesses = Keeper::kMaxGroups - 64;

bool has_ended(int pidfd, int timeout_ms) {
  pollfd entry{pidfd, POLLIN, 0};
  return ::poll(&entry, 1, timeout_ms) > 0;
}

// Killed processes that did not end in time, as pids that stay zombies of ours until reaped.
void reap_leftover(pid_t pid) {
  siginfo_t info{};
  if (::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOHANG) == 0 && info.si_pid == 0) return;
  own_children::remove(pid);
}

std::vector<pid_t>& leftovers() {
  static std::vector<pid_t> pids;
  return pids;
}

void reap_leftovers() {
  for (const pid_t pid : leftovers()) reap_leftover(pid);
  std::erase_if(leftovers(), [](pid_t pid) { return !own_children::contains(pid); });
}

}  // namespace

Result<std::unique_ptr<Child>> Child::start(Loop& loop, Keeper& keeper, const Program& program,
                                            const Streams& streams,
                                            std::function<void(const ExitReport&)> exited) {
  reap_leftovers();
  if (own_children::count() >= kMaxProcesses) {
    return fail(
        "relayd runs " + std::to_string(own_children::count()) +
            " processes already and cannot guard more against its own end: lower backend.instances or "
            "rollover.max_old_generations",
        EAGAIN);
  }
  auto spawned = spawn(program, streams, keeper.channel());
  if (!spawned) return std::unexpected(spawned.error());
  return watch(loop, keeper, std::move(*spawned), std::move(exited));
}

std::unique_ptr<Child> Child::adopt(Loop& loop, Keeper& keeper, pid_t pid, Descriptor pidfd,
                                    std::function<void(const ExitReport&)> exited) {
  auto adopted = watch(loop, keeper, {pid, std::move(pidfd)}, std::move(exited));
  if (!adopted) throw std::runtime_error("cannot watch a process: " + adopted.error().message);
  return std::move(*adopted);
}

Result<std::unique_ptr<Child>> Child::watch(Loop& loop, Keeper& keeper, Spawned spawned,
                                            std::function<void(const ExitReport&)> exited) {
  std::unique_ptr<Child> child(new Child(keeper, std::move(spawned), std::move(exited)));
  Child* const self = child.get();
  auto poll = Poll::create(loop, child->pidfd_.get(), UV_READABLE, [self](int) { self->on_end(); });
  if (!poll) {
    if (is_taken_over(child->pidfd_.get())) child->reaped_ = true;  // it goes back as it is
    return std::unexpected(poll.error());
  }
  child->watch_ = std::move(*poll);
  own_children::add(child->pid_, [self] { self->on_end(); });
  return child;
}

Child::Child(Keeper& keeper, Spawned spawned, std::function<void(const ExitReport&)> exited)
    : keeper_(keeper), pid_(spawned.pid), pidfd_(std::move(spawned.pidfd)), exited_(std::move(exited)) {}

Child::~Child() {
  if (reaped_) return;
  watch_.reset();
  kill_group();
  keeper_.forget_group(pid_);  // before the reaping: from then on the number may be anybody's
  own_children::remove(pid_);
  if (has_ended(pidfd_.get(), kReapPatienceMs)) {
    siginfo_t info{};
    ::waitid(P_PIDFD, static_cast<id_t>(pidfd_.get()), &info, WEXITED | WNOHANG);
  } else {
    leftovers().push_back(pid_);
    own_children::add(pid_, [pid = pid_] { reap_leftover(pid); });
  }
}

bool Child::alive() const { return !reaped_ && !has_ended(pidfd_.get(), 0); }

void Child::signal(int number) {
  if (!reaped_) signal_pidfd(pidfd_.get(), number);
}

void Child::kill_group() {
  if (reaped_) return;
  // The group's number is safe as long as its leader has not been reaped. The leader by itself too: it may
  // have moved to another group.
  ::kill(-pid_, SIGKILL);
  signal_pidfd(pidfd_.get(), SIGKILL);
}

void Child::on_end() {
  if (reaped_ || !has_ended(pidfd_.get(), 0)) return;
  // The order matters: the zombie keeps the group's number ours while the rest of the group is killed.
  ::kill(-pid_, SIGKILL);
  keeper_.forget_group(pid_);
  siginfo_t info{};
  const int result = ::waitid(P_PIDFD, static_cast<id_t>(pidfd_.get()), &info, WEXITED | WNOHANG);
  if (result == 0 && info.si_pid == 0) return;  // cannot be: it has ended. Tried again at the next wake-up
  reaped_ = true;
  watch_.reset();
  own_children::remove(pid_);
  ExitReport report;
  report.pid = pid_;
  // Where somebody else reaped it (ECHILD), its status is lost: told as an unknown failure, never as a
  // success.
  report.signaled = result == 0 && info.si_code != CLD_EXITED;
  report.status = result == 0 ? info.si_status : 255;
  const auto callback = std::move(exited_);
  callback(report);
}

void end_stray(Keeper& keeper, pid_t pid) {
  ::kill(-pid, SIGKILL);
  ::kill(pid, SIGKILL);
  keeper.forget_group(pid);  // before the reaping
  own_children::add(pid, [pid] { reap_leftover(pid); });
  const Descriptor pidfd = open_pidfd(pid);
  if (pidfd) has_ended(pidfd.get(), kReapPatienceMs);
  leftovers().push_back(pid);
  reap_leftovers();
}

}  // namespace relayd::backend
