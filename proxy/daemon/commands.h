#pragma once

#include <memory>

#include "control/server/commands.h"

namespace relayd {

class Daemon;

// What the control socket may ask, carried out on the daemon, which outlives it.
std::unique_ptr<control::Commands> make_commands(Daemon& daemon);

}  // namespace relayd
