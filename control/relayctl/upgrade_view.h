#pragma once

#include <string>

#include "control/protocol/messages.h"

namespace relayd::relayctl {

// What an upgrade has come to, as one line.
std::string upgrade_line(const control::UpgradeResult& result);

}  // namespace relayd::relayctl
