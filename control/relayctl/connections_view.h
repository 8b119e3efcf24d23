#pragma once

#include <string>
#include <vector>

#include "control/protocol/messages.h"
#include "control/relayctl/text.h"

namespace relayd::relayctl {

std::vector<std::string> connection_lines(const std::vector<control::ConnectionEntry>& connections,
                                          const Style& style);
// "12:04:31.250  web  switched  new connections go to generation 7", in the zone of this
// machine.
std::string event_line(const control::Event& event, const Style& style);

}  // namespace relayd::relayctl
