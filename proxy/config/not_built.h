#pragma once

#include <vector>

#include "proxy/config/checks.h"

namespace relayd::config {

// Adds a fault for each key of the contract that this version does not carry out and that is set to more than
// "off".
void refuse_what_is_not_built(const Config& config, std::vector<KeyFault>& faults);

}  // namespace relayd::config
