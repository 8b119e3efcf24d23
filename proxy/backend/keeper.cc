#include "proxy/backend/keeper.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <utility>

#include "proxy/backend/own_children.h"
#include "proxy/backend/pidfd.h"

namespace relayd::backend {
namespace {

constexpr timeval kSendPatience{1, 0};  // the queue holds hundreds of messages, and is read at once
constexpr int kEndPatienceMs = 2000;    // the keeper has only signals to send before it ends

using Message = Keeper::Message;

// In the keeper's own process, which has nothing but this array. All that runs here is async-signal-safe,
// because a keeper that is started again is forked while other threads exist.
std::array<pid_t, Keeper::kMaxGroups> groups;  // 32 KiB

void apply(const Message& message) {
  for (pid_t& group : groups) {
    if (message.add && group == 0) {
      group = message.group;
      return;
    }
    if (!message.add && group == message.group) group = 0;
  }
}

// Stays out of everybody's way: no terminal, no folder, no descriptor of relayd's, no signal that is meant
// for others.
void detach(int channel) {
  ::setsid();
  ::prctl(PR_SET_NAME, "relayd-keeper");
  struct sigaction ignore {};
  ignore.sa_handler = SIG_IGN;
  for (int number = 1; number < NSIG; ++number) ::sigaction(number, &ignore, nullptr);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  [[maybe_unused]] const int in_root = ::chdir("/");
  const int null = ::open("/dev/null", O_RDWR);
  for (int fd = 0; fd < 3 && null >= 0; ++fd) ::dup2(null, fd);
  ::dup2(channel, 3);
  if (::close_range(4, ~0U, 0) != 0) {
    for (int fd = 4; fd < 65536; ++fd) ::close(fd);
  }
}

[[noreturn]] void run_keeper(int channel) {
  detach(channel);
  groups.fill(0);
  for (;;) {
    Message message{};
    const ssize_t got = ::recv(3, &message, sizeof message, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got <= 0) break;  // the last copy of relayd's end is closed
    if (got == sizeof message && message.group > 1) apply(message);
  }
  for (const pid_t group : groups) {
    if (group > 1) ::kill(-group, SIGKILL);
  }
  ::_exit(0);
}

bool tell(int channel, const Message& message) {
  ssize_t sent = 0;
  do {
    sent = ::send(channel, &message, sizeof message, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  return sent == sizeof message;
}

// The orphan reaper has come upon a dead keeper: Keeper::dead() finds out by the pidfd all the same.
void reap(pid_t pid) {
  ::waitpid(pid, nullptr, WNOHANG);
  own_children::remove(pid);
}

}  // namespace

Result<Keeper> Keeper::start() {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
    return fail_errno("cannot start relayd-keeper");
  Descriptor ours(ends[0]);
  Descriptor its(ends[1]);
  // So that a stopped keeper (SIGSTOP) can never stop relayd with it: sending then fails.
  ::setsockopt(ours.get(), SOL_SOCKET, SO_SNDTIMEO, &kSendPatience, sizeof kSendPatience);
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);  // no handler of relayd's may run in the keeper
  const pid_t pid = ::fork();
  if (pid == 0) run_keeper(its.get());
  const int code = errno;
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  if (pid < 0) return std::unexpected(errno_error("cannot start relayd-keeper: fork", code));
  Keeper keeper(pid, std::move(ours), open_pidfd(pid));
  if (!keeper.pidfd_) return fail_errno("cannot watch relayd-keeper");
  own_children::add(pid, [pid] { reap(pid); });
  return keeper;
}

Keeper Keeper::adopt(const KeeperRecord& record) {
  own_children::add(record.pid, [pid = record.pid] { reap(pid); });
  return Keeper(record.pid, Descriptor(record.channel), Descriptor(record.pidfd));
}

Keeper::Keeper(Keeper&& other) noexcept
    : pid_(std::exchange(other.pid_, -1)),
      channel_(std::move(other.channel_)),
      pidfd_(std::move(other.pidfd_)) {}

Keeper& Keeper::operator=(Keeper&& other) noexcept {
  if (this != &other) {
    end();
    pid_ = std::exchange(other.pid_, -1);
    channel_ = std::move(other.channel_);
    pidfd_ = std::move(other.pidfd_);
  }
  return *this;
}

Keeper::~Keeper() { end(); }

void Keeper::end() {
  if (pid_ < 0) return;
  channel_.reset();
  pollfd entry{pidfd_.get(), POLLIN, 0};
  while (::poll(&entry, 1, kEndPatienceMs) < 0 && errno == EINTR) {
  }
  siginfo_t info{};
  ::waitid(P_PIDFD, static_cast<id_t>(pidfd_.get()), &info, WEXITED | WNOHANG);
  own_children::remove(pid_);
  pid_ = -1;
  pidfd_.reset();
}

bool Keeper::register_group(int channel, pid_t group) { return tell(channel, Message{true, group}); }

void Keeper::forget_group(int channel, pid_t group) { tell(channel, Message{false, group}); }

bool Keeper::dead() const {
  pollfd entry{pidfd_.get(), POLLIN, 0};
  return pid_ < 0 || ::poll(&entry, 1, 0) > 0;
}

Result<void> Keeper::restart(std::span<const pid_t> alive) {
  auto fresh = start();
  if (!fresh) return std::unexpected(fresh.error());
  for (const pid_t group : alive) {
    if (!register_group(fresh->channel(), group)) return fail_errno("cannot tell relayd-keeper of a group");
  }
  *this = std::move(*fresh);
  return {};
}

}  // namespace relayd::backend
