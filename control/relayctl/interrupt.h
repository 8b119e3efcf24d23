#pragma once

#include <optional>

#include "control/relayctl/exit_code.h"

namespace relayd::relayctl {

// From here on SIGINT and SIGTERM are remembered instead of ending relayctl; a second one ends it at once.
void watch_interrupts();
// How to end, if one of them came.
std::optional<ExitCode> interrupted();

}  // namespace relayd::relayctl
