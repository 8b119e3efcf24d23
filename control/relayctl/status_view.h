#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "control/protocol/messages.h"
#include "control/relayctl/text.h"

namespace relayd::relayctl {

// The whole report as lines. `instances` adds a row for each process. `now_unix_ms` tells how long ago things
// were.
std::vector<std::string> status_lines(const control::StatusReport& report, bool instances, const Style& style,
                                      std::int64_t now_unix_ms);

// "2/3": instances of the generation that are ready, of those wanted.
std::string ready_of(const control::GenerationStatus& generation, unsigned wanted);
const control::GenerationStatus* find_generation(const control::ServiceStatus& service, std::uint32_t number);

}  // namespace relayd::relayctl
