#pragma once

#include <expected>

#include "control/relayctl/options.h"

namespace relayd::relayctl {

// Reads the command line. The error case is an ending: help and version (done, text for standard output), or
// what is wrong with it (usage, text for standard error).
std::expected<Options, Ending> read_command_line(int argc, const char* const* argv);

}  // namespace relayd::relayctl
