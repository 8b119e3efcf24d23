#include <fcntl.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <exception>

#include "proxy/daemon/command_line.h"
#include "proxy/daemon/daemon.h"
#include "proxy/daemon/exit_codes.h"

namespace {

// Descriptors 0 to 2 closed by whoever started relayd would be given to a socket, and then be written to as a
// log.
void keep_standard_streams_open() {
  int fd = 0;
  do {
    fd = ::open("/dev/null", O_RDWR);  // the lowest free number; children get their own streams
  } while (fd >= 0 && fd <= STDERR_FILENO);
  if (fd > STDERR_FILENO) ::close(fd);
}

}  // namespace

int main(int argc, char** argv) {
  keep_standard_streams_open();
  std::signal(SIGPIPE, SIG_IGN);
  try {
    auto inherited = relayd::InheritedSockets::take();
    auto line = relayd::parse_command_line(argc, argv);
    if (!line) return line.error().code;
    return relayd::run_daemon(std::move(*line), std::move(inherited));
  } catch (const std::exception& e) {
    std::fprintf(stderr, "relayd: %s\n", e.what());
    return relayd::kExitFailed;
  }
}
