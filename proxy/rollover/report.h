#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "proxy/rollover/state.h"

namespace relayd::rollover {

// Something that happened to a service, for the log and for `relayctl events`.
struct Happening {
  std::string type;  // "switched", "rollover_failed" …: control/PROTOCOL.md has the list
  GenerationNumber generation = 0;
  int instance = -1;
  std::string message;  // one line
  std::map<std::string, std::string> details;
};

// How a rollover went.
struct Report {
  config::Mode mode = config::Mode::kPhased;
  Outcome outcome = Outcome::kDone;
  std::string reason;  // may have several lines: the app's last words are in it
  GenerationNumber from = 0;
  GenerationNumber to = 0;
  Duration duration{};
  std::int64_t ended_unix_ms = 0;
  bool drained = false;
};

}  // namespace relayd::rollover
