#include <csignal>
#include <cstdio>
#include <exception>

#include "proxy/daemon/command_line.h"
#include "proxy/daemon/daemon.h"
#include "proxy/daemon/exit_codes.h"

int main(int argc, char** argv) {
  std::signal(SIGPIPE, SIG_IGN);
  try {
    auto line = relayd::parse_command_line(argc, argv);
    if (!line) return line.error().code;
    return relayd::run_daemon(std::move(*line));
  } catch (const std::exception& e) {
    std::fprintf(stderr, "relayd: %s\n", e.what());
    return relayd::kExitFailed;
  }
}
