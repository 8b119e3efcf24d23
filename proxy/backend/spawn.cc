#include "proxy/backend/spawn.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <csignal>
#include <string_view>

#include "proxy/backend/keeper.h"
#include "proxy/backend/pidfd.h"

namespace relayd::backend {
namespace {

enum class Stage : int {
  kGroup,
  kKeeper,
  kStreams,
  kSockets,
  kNofile,
  kDirectory,
  kGroups,
  kGid,
  kUid,
  kParent,
  kExec
};

struct Failure {
  Stage stage;
  int code;
};

// Everything the child needs, laid out before the fork: between fork and exec it may only make
// async-signal-safe calls, because another thread may have held any lock at the moment of the fork.
struct ChildPlan {
  char* const* argv;
  char* const* envp;
  const char* const* executables;  // in the order of PATH, ends with null
  const char* directory;           // null: stay
  const Identity* identity;        // null: stay
  const rlimit* nofile;            // null: keep
  int dev_null;
  int output;  // -1: relayd's own
  int error;
  int* sockets;  // in their order; written to by the child
  int socket_count;
  char* listen_pid;  // in envp: where the digits of the child's number go; null without sockets
  int keeper_channel;
  int failure_pipe;
  pid_t parent;
};

[[noreturn]] void give_up(const ChildPlan& plan, Stage stage) {
  const Failure failure{stage, errno};
  // Smaller than PIPE_BUF into an empty pipe: written whole or, with no reader, of no use.
  [[maybe_unused]] const ssize_t written = ::write(plan.failure_pipe, &failure, sizeof failure);
  ::_exit(127);
}

void reset_signals() {
  struct sigaction action {};
  action.sa_handler = SIG_DFL;
  for (int number = 1; number < NSIG; ++number)
    ::sigaction(number, &action, nullptr);  // fails for KILL, STOP; fine
}

void become(const ChildPlan& plan) {
  const Identity& who = *plan.identity;
  // An unprivileged relayd may name its own user and group, and then has nothing to change.
  if (::geteuid() != 0 && who.uid == ::geteuid() && who.gid == ::getegid()) return;
  if (::setgroups(who.groups.size(), who.groups.data()) != 0) give_up(plan, Stage::kGroups);
  if (::setgid(who.gid) != 0) give_up(plan, Stage::kGid);
  if (::setuid(who.uid) != 0) give_up(plan, Stage::kUid);
}

constexpr int kFirstSocket = 3;             // SD_LISTEN_FDS_START
constexpr std::size_t kMostPidDigits = 10;  // pid_t is an int

// Puts the sockets where sd_listen_fds(3) looks for them. Some may stand there already, for another place,
// and so may the pipe by which failures are told: all are moved out of the way first.
void pass_sockets(ChildPlan& plan) {
  const int end = kFirstSocket + plan.socket_count;
  if (plan.failure_pipe < end) {
    const int moved = ::fcntl(plan.failure_pipe, F_DUPFD_CLOEXEC, end);
    if (moved < 0) give_up(plan, Stage::kSockets);
    plan.failure_pipe = moved;
  }
  for (int i = 0; i < plan.socket_count; ++i) {
    const int moved = ::fcntl(plan.sockets[i], F_DUPFD_CLOEXEC, end);
    if (moved < 0) give_up(plan, Stage::kSockets);
    plan.sockets[i] = moved;
  }
  for (int i = 0; i < plan.socket_count; ++i) {
    if (::dup2(plan.sockets[i], kFirstSocket + i) < 0) give_up(plan, Stage::kSockets);
  }
  *std::to_chars(plan.listen_pid, plan.listen_pid + kMostPidDigits, ::getpid()).ptr = '\0';
}

// relayd opens everything close-on-exec; this is for what it inherited itself, such as systemd's sockets.
void close_rest_on_exec(int first) {
  if (::close_range(static_cast<unsigned>(first), ~0U, CLOSE_RANGE_CLOEXEC) == 0) return;
  // A kernel before 5.11, or a container's seccomp filter. Descriptors are given lowest first.
  for (int fd = first; fd < 65536; ++fd) ::fcntl(fd, F_SETFD, FD_CLOEXEC);
}

// As execvpe(3): goes on where a folder of PATH does not have the file, and remembers a file that may not be
// run.
void execute(const ChildPlan& plan) {
  bool denied = false;
  errno = ENOENT;
  for (const char* const* path = plan.executables; *path != nullptr; ++path) {
    ::execve(*path, plan.argv, plan.envp);
    if (errno == EACCES) {
      denied = true;
    } else if (errno != ENOENT && errno != ENOTDIR && errno != ENAMETOOLONG) {
      return;
    }
  }
  if (denied) errno = EACCES;
}

[[noreturn]] void run_child(ChildPlan plan) {
  if (::setpgid(0, 0) != 0) give_up(plan, Stage::kGroup);
  if (!Keeper::register_group(plan.keeper_channel, ::getpid())) give_up(plan, Stage::kKeeper);
  reset_signals();  // before unblocking: a handler of relayd's would write to relayd's own pipes
  if (::dup2(plan.dev_null, STDIN_FILENO) < 0) give_up(plan, Stage::kStreams);
  if (plan.output >= 0 && ::dup2(plan.output, STDOUT_FILENO) < 0) give_up(plan, Stage::kStreams);
  if (plan.error >= 0 && ::dup2(plan.error, STDERR_FILENO) < 0) give_up(plan, Stage::kStreams);
  if (plan.socket_count > 0) pass_sockets(plan);
  // After the descriptors have been moved: a low limit would forbid that.
  if (plan.nofile != nullptr && ::setrlimit(RLIMIT_NOFILE, plan.nofile) != 0) give_up(plan, Stage::kNofile);
  if (plan.directory != nullptr && ::chdir(plan.directory) != 0) give_up(plan, Stage::kDirectory);
  if (plan.identity != nullptr) become(plan);
  // After the change of user, which would clear it. getppid() notices a parent that died before this call.
  if (::prctl(PR_SET_PDEATHSIG, SIGKILL) != 0 || ::getppid() != plan.parent) give_up(plan, Stage::kParent);
  close_rest_on_exec(kFirstSocket + plan.socket_count);
  sigset_t none;
  sigemptyset(&none);
  ::sigprocmask(SIG_SETMASK, &none, nullptr);
  execute(plan);
  give_up(plan, Stage::kExec);
}

std::vector<std::string> executables_of(const Program& program) {
  const std::string& name = program.command[0];
  if (name.find('/') != std::string::npos) return {name};
  const auto found = program.env.find("PATH");
  std::string_view path = found == program.env.end() ? std::string_view("/usr/bin:/bin") : found->second;
  std::vector<std::string> candidates;
  while (!name.empty()) {
    const std::size_t colon = path.find(':');
    const std::string_view folder = path.substr(0, colon);
    candidates.push_back(folder.empty() ? "./" + name : std::string(folder) + "/" + name);
    if (colon == std::string_view::npos) break;
    path.remove_prefix(colon + 1);
  }
  return candidates;
}

std::vector<char*> pointers_to(std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (std::string& string : strings) pointers.push_back(string.data());
  pointers.push_back(nullptr);
  return pointers;
}

Error describe(const Failure& failure, const Program& program) {
  const std::string user = program.identity ? " " + std::to_string(program.identity->uid) : "";
  std::string what;
  std::string cure;
  switch (failure.stage) {
    case Stage::kGroup:
      what = "make a process group";
      break;
    case Stage::kKeeper:
      what = "register with relayd-keeper";
      break;
    case Stage::kNofile:
      what =
          "set the limit of open files to " + std::to_string(program.nofile ? program.nofile->rlim_max : 0);
      if (failure.code == EPERM)
        cure = "; it is above relayd's own hard limit: lower backend.limits.nofile, or raise that";
      break;
    case Stage::kStreams:
      what = "set up the standard streams";
      break;
    case Stage::kSockets:
      what = "pass the listening sockets";
      break;
    case Stage::kDirectory:
      what = "chdir " + program.directory;
      break;
    case Stage::kGroups:
      what = "take the groups of user" + user;
      break;
    case Stage::kGid:
      what = "take the group of user" + user;
      break;
    case Stage::kUid:
      what = "become user" + user;
      break;
    case Stage::kParent:
      what = "tie its life to relayd's";
      break;
    case Stage::kExec:
      what = "exec " + program.command[0];
      if (failure.code == ENOEXEC) cure = "; a script needs a first line such as #!/bin/sh";
      break;
  }
  if (failure.stage >= Stage::kGroups && failure.stage <= Stage::kUid && failure.code == EPERM) {
    cure = "; start relayd as root, or leave out backend.user and backend.group";
  }
  Error error = errno_error(what, failure.code);
  error.message += cure;
  return error;
}

constexpr std::string_view kListenPid = "LISTEN_PID=";

// Room for the child to write its number into comes first.
std::vector<std::string> environment_of(const Program& program, const std::vector<PassedSocket>& sockets) {
  std::vector<std::string> environment;
  if (!sockets.empty()) {
    std::string names;
    for (const PassedSocket& socket : sockets) names += (names.empty() ? "" : ":") + socket.name;
    environment.push_back(std::string(kListenPid) + std::string(kMostPidDigits, '\0'));
    environment.push_back("LISTEN_FDS=" + std::to_string(sockets.size()));
    environment.push_back("LISTEN_FDNAMES=" + names);
  }
  for (const auto& [key, value] : program.env) {
    if (sockets.empty() || !key.starts_with("LISTEN_")) environment.push_back(key + "=" + value);
  }
  return environment;
}

// True where the child reported a failure; false where the exec closed the pipe.
bool read_failure(int fd, Failure& failure) {
  ssize_t got = 0;
  do {
    got = ::read(fd, &failure, sizeof failure);
  } while (got < 0 && errno == EINTR);
  return got == sizeof failure;
}

// Ends a child of which only the keeper knows. The order matters: once it has ended it registers no more, and
// as a zombie it keeps the number ours until the keeper has forgotten it.
void end_unborn(pid_t pid, int keeper_channel) {
  ::kill(-pid, SIGKILL);
  ::kill(pid, SIGKILL);
  siginfo_t info{};
  while (::waitid(P_PID, static_cast<id_t>(pid), &info, WEXITED | WNOWAIT) < 0 && errno == EINTR) {
  }
  Keeper::forget_group(keeper_channel, pid);
  while (::waitpid(pid, nullptr, 0) < 0 && errno == EINTR) {
  }
}

// Forks with every signal blocked, so that none of relayd's handlers runs in the child.
pid_t fork_child(const ChildPlan& plan) {
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  const pid_t pid = ::fork();
  if (pid == 0) run_child(plan);
  const int code = errno;
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  errno = code;
  return pid;
}

}  // namespace

Result<Spawned> spawn(const Program& program, const Streams& streams, int keeper_channel) {
  std::vector<std::string> command = program.command;
  std::vector<std::string> executables = executables_of(program);
  std::vector<std::string> environment = environment_of(program, streams.sockets);
  std::vector<int> sockets;
  for (const PassedSocket& socket : streams.sockets) sockets.push_back(socket.fd);
  const std::vector<char*> argv = pointers_to(command);
  const std::vector<char*> envp = pointers_to(environment);
  const std::vector<char*> paths = pointers_to(executables);

  const Descriptor dev_null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  if (!dev_null) return fail_errno("open /dev/null");
  auto pipe = make_pipe();
  if (!pipe) return std::unexpected(pipe.error());

  const ChildPlan plan{.argv = argv.data(),
                       .envp = envp.data(),
                       .executables = paths.data(),
                       .directory = program.directory.empty() ? nullptr : program.directory.c_str(),
                       .identity = program.identity ? &*program.identity : nullptr,
                       .nofile = program.nofile ? &*program.nofile : nullptr,
                       .dev_null = dev_null.get(),
                       .output = streams.output,
                       .error = streams.error,
                       .sockets = sockets.data(),
                       .socket_count = static_cast<int>(sockets.size()),
                       .listen_pid = sockets.empty() ? nullptr : environment[0].data() + kListenPid.size(),
                       .keeper_channel = keeper_channel,
                       .failure_pipe = pipe->write.get(),
                       .parent = ::getpid()};
  const pid_t pid = fork_child(plan);
  if (pid < 0) return fail_errno("fork");
  ::setpgid(pid, pid);  // the child does the same: whoever comes first. EACCES once it has executed
  Spawned spawned{pid, open_pidfd(pid)};
  if (!spawned.pidfd) {
    const Error error = errno_error("watch the new process", errno);
    end_unborn(pid, keeper_channel);
    return std::unexpected(error);
  }
  pipe->write.reset();
  if (Failure failure{}; read_failure(pipe->read.get(), failure)) {
    end_unborn(pid, keeper_channel);
    return std::unexpected(describe(failure, program));
  }
  return spawned;
}

}  // namespace relayd::backend
