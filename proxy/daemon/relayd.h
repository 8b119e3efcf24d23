#pragma once

#include <cstdint>
#include <functional>

#include "proxy/upgrade/record.h"

namespace relayd {

// For tests of what an upgrade does with a relayd that is not as it should be.
struct Oddities {
  std::function<void()> before_commit = nullptr;   // run_taken_over()
  std::uint32_t newest_state = upgrade::kVersion;  // up to which version it reads a state
};

// main() of relayd: one that starts, one that rehearses an upgrade, or one that takes another one's place.
// The exit code.
int relayd_main(int argc, char** argv, const Oddities& oddities = {});

}  // namespace relayd
