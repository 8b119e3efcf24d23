#pragma once

#include <string_view>

namespace relayd::control {

// Raised when a change could break a client that was written for the number before.
inline constexpr unsigned kProtocol = 1;

// "0.1.0": the version that relayd and relayctl were built as.
std::string_view version();

}  // namespace relayd::control
