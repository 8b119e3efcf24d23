#pragma once

#include <chrono>
#include <cstdint>

#include "bench/sessions.h"

namespace relayd::bench {

struct Pace {
  std::chrono::milliseconds length{};
  std::uint64_t rate = 0;  // units a second
  std::uint64_t kept = 0;  // connections that stay open
};

// Units that fall due at a steady rate, whether or not those before them are done: nine in ten are round
// trips on kept connections, the tenth is a connection of its own. The report has "latency_us": {p50, p99,
// p999, max} of each kind, counted from when a unit was due, so that a stall shows in everything that had to
// wait for it.
void paced(Load& load, const Pace& pace);

}  // namespace relayd::bench
