#include "control/relayctl/interrupt.h"

#include <csignal>

namespace relayd::relayctl {
namespace {

volatile std::sig_atomic_t caught = 0;

}  // namespace

void watch_interrupts() {
  struct sigaction action {};
  action.sa_handler = [](int signal) { caught = signal; };
  action.sa_flags = static_cast<int>(SA_RESETHAND);  // no SA_RESTART: poll(2) must return
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
}

std::optional<ExitCode> interrupted() {
  if (caught == SIGINT) return kExitInterrupted;
  if (caught == SIGTERM) return kExitTerminated;
  return std::nullopt;
}

}  // namespace relayd::relayctl
