#pragma once

#include <string_view>

#include "proxy/base/error.h"
#include "proxy/base/time.h"

namespace relayd::relayctl {

// "250ms", "30s", "5m", "1h", as in the configuration; the unit is required, and so is more than zero.
Result<Duration> parse_duration(std::string_view text);

}  // namespace relayd::relayctl
