#pragma once

#include <chrono>
#include <optional>

namespace relayd {

using Duration = std::chrono::milliseconds;
// A moment of the monotonic clock, in milliseconds. Only differences mean anything.
using TimePoint = std::chrono::time_point<std::chrono::steady_clock, Duration>;
// Nothing is due where this is empty.
using Deadline = std::optional<TimePoint>;

inline TimePoint monotonic_now() {
  return std::chrono::time_point_cast<Duration>(std::chrono::steady_clock::now());
}

}  // namespace relayd
