#pragma once

#include <string>

namespace relayd::relayctl {

// What scripts go by; fixed for ever.
enum ExitCode : int {
  kExitDone = 0,
  kExitFailed = 1,    // and the old generation serves, or the old relayd
  kExitUsage = 2,     // also: no such service, and what this version does not do yet
  kExitNoRelayd = 3,  // nobody at the socket, or it went away before the answer (upgrade: 1)
  kExitBusy = 4,      // another rollover is in progress
  kExitTimeout = 5,   // --timeout passed, and it goes on
  kExitNotPermitted = 6,
  kExitInterrupted = 130,  // ctrl-C, as shells count it
  kExitTerminated = 143,
};

// Why relayctl ends, and what it says about it.
struct Ending {
  ExitCode code = kExitDone;
  std::string message;  // empty: nothing more to say
};

}  // namespace relayd::relayctl
