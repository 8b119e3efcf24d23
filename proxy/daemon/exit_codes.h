#pragma once

// Exit codes of relayd.
namespace relayd {

inline constexpr int kExitClean = 0;
inline constexpr int kExitFailed = 1;  // failed while running; --check: the configuration has faults
inline constexpr int kExitUsage = 2;   // bad usage or configuration
inline constexpr int kExitStart = 3;   // could not bind, or could not start any generation

}  // namespace relayd
