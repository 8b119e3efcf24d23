#pragma once

#include <optional>
#include <string>
#include <variant>

#include "control/protocol/requests.h"
#include "control/relayctl/exit_code.h"
#include "proxy/base/time.h"

// What a command line asks for, as plain data.
namespace relayd::relayctl {

struct Status {
  std::string service;
  bool watch = false;
};
struct Rollover {
  control::RolloverCall call;
};
struct Connections {
  control::ConnectionsCall call;
};
struct Events {
  bool follow = false;
  unsigned recent = 50;
  std::string service;
};
struct Stop {
  bool now = false;
  bool wait = true;  // until relayd has ended
};
// Those whose answer is one line: abort, pause, resume, scale.
struct Simple {
  control::Call call;
};
struct Reload {};
struct Upgrade {
  control::UpgradeCall call;  // its path is absolute
};

using Verb = std::variant<Status, Rollover, Connections, Events, Stop, Simple, Reload, Upgrade>;

struct Options {
  Verb verb;
  std::string socket;  // empty: RELAYD_SOCKET, or the default place
  bool json = false;
  std::optional<Duration> timeout;
};

}  // namespace relayd::relayctl
