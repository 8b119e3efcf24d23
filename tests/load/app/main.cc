#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <map>

#include "proxy/base/address.h"
#include "tests/load/app/server.h"

// The app of the demo and of many tests. It tells by header and body which generation and instance answered,
// and can be asked to fail in the ways that real deployments fail.
namespace {

using relayd::load::AppOptions;
using relayd::load::Failing;

constexpr int kBacklog = 4096;

std::string from_environment(const char* name, const std::string& fallback) {
  const char* value = std::getenv(name);
  return value != nullptr && *value != '\0' ? value : fallback;
}

std::string default_listen() {
  const std::string socket = from_environment("RELAY_SOCKET", "");
  if (!socket.empty()) return "unix:" + socket;
  return from_environment("HOST", "127.0.0.1") + ":" + from_environment("PORT", "8000");
}

// True where TERM or INT came within the time.
bool asked_to_end(int signals, int milliseconds) {
  pollfd waiting{signals, POLLIN, 0};
  return ::poll(&waiting, 1, milliseconds) > 0;
}

// Holds the lock for the life of the process; false where another copy has it.
bool take_lock(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  return fd >= 0 && ::flock(fd, LOCK_EX | LOCK_NB) == 0;
}

int run(const AppOptions& options) {
  sigset_t set;
  ::sigemptyset(&set);
  ::sigaddset(&set, SIGTERM);
  ::sigaddset(&set, SIGINT);
  ::sigprocmask(SIG_BLOCK, &set, nullptr);
  relayd::Descriptor signals(::signalfd(-1, &set, SFD_CLOEXEC));

  if (!options.exclusive.empty() && !take_lock(options.exclusive)) {
    std::fprintf(stderr, "demo_app: another copy holds %s\n", options.exclusive.c_str());
    return 4;
  }
  if (options.failing == Failing::kExit) {
    std::fprintf(stderr, "demo_app: cannot start: asked to fail\n");
    return 3;
  }
  if (asked_to_end(signals.get(),
                   options.failing == Failing::kHang ? -1 : static_cast<int>(options.boot_ms))) {
    return 0;
  }
  auto address = relayd::SocketAddress::parse(options.listen);
  if (!address) {
    std::fprintf(stderr, "demo_app: %s\n", address.error().message.c_str());
    return 2;
  }
  auto listener = relayd::listen_on(*address, kBacklog);
  if (!listener) {
    std::fprintf(stderr, "demo_app: %s\n", listener.error().message.c_str());
    return 1;
  }
  relayd::load::Server server(options, std::move(*listener), std::move(signals));
  const int status = server.run();
  if (address->is_unix()) ::unlink(address->path().c_str());
  return status;
}

}  // namespace

int main(int argc, char** argv) try {
  AppOptions options;
  options.listen = default_listen();
  options.service = from_environment("RELAY_SERVICE", "none");
  options.generation = from_environment("RELAY_GENERATION", "0");
  options.instance = from_environment("RELAY_INSTANCE", "0");
  std::string only_instance;
  const std::map<std::string, Failing> ways = {{"no", Failing::kNo},
                                               {"exit", Failing::kExit},
                                               {"hang", Failing::kHang},
                                               {"check", Failing::kCheck},
                                               {"die-after-ready", Failing::kDieAfterReady}};

  CLI::App cli("A small HTTP/1.1 server for demos and tests of relayd");
  cli.add_option("--listen", options.listen, "host:port or unix:/path [RELAY_SOCKET, or HOST and PORT]");
  cli.add_option("--boot-ms", options.boot_ms, "wait this long before listening")->envname("DEMO_BOOT_MS");
  cli.add_option("--fail", options.failing,
                 "exit: exits at once; hang: never listens; check: /up answers 503; die-after-ready: exits "
                 "soon after "
                 "its first client")
      ->envname("DEMO_FAIL")
      ->transform(CLI::CheckedTransformer(ways));
  cli.add_option("--fail-instance", only_instance, "--fail is meant for this instance alone")
      ->envname("DEMO_FAIL_INSTANCE");
  cli.add_option("--die-ms", options.die_ms, "die-after-ready: how soon")->envname("DEMO_DIE_MS");
  cli.add_option("--exclusive", options.exclusive, "a lock file: refuse to run beside another copy")
      ->envname("DEMO_EXCLUSIVE");
  cli.add_flag("--ignore-term", options.ignore_term, "go on after TERM")->envname("DEMO_IGNORE_TERM");
  CLI11_PARSE(cli, argc, argv);
  if (!only_instance.empty() && only_instance != options.instance) options.failing = Failing::kNo;

  // As many clients as the hard limit lets in.
  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &files);
  }
  return run(options);
} catch (const std::exception& failure) {
  std::fprintf(stderr, "demo_app: %s\n", failure.what());
  return 1;
}
