#include "proxy/daemon/relayd.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <csignal>
#include <cstdio>
#include <exception>

#include "control/protocol/version.h"
#include "proxy/daemon/command_line.h"
#include "proxy/daemon/daemon.h"
#include "proxy/daemon/exit_codes.h"
#include "proxy/upgrade/image.h"
#include "proxy/upgrade/rehearsal.h"

namespace relayd {
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

int start(int argc, char** argv) {
  try {
    auto inherited = InheritedSockets::take();
    auto line = parse_command_line(argc, argv);
    if (!line) return line.error().code;
    return run_daemon(std::move(*line), std::move(inherited));
  } catch (const std::exception& e) {
    std::fprintf(stderr, "relayd: %s\n", e.what());
    return kExitFailed;
  }
}

}  // namespace

int relayd_main(int argc, char** argv, const Oddities& oddities) {
  keep_standard_streams_open();
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);   // a limit of file sizes (RLIMIT_FSIZE) is told by write(2), then
  ::prctl(PR_SET_NAME, "relayd");  // executed by descriptor, it would be called by its number
  upgrade::set_arguments(argv);
  if (int state = -1; upgrade::is_rehearsal(state)) {
    const auto line = parse_command_line(argc, argv);
    return line ? upgrade::rehearse(state, control::version(), oddities.newest_state) : line.error().code;
  }
  if (const auto handed = upgrade::handed_over()) return run_taken_over(*handed, oddities.before_commit);
  return start(argc, argv);
}

}  // namespace relayd
