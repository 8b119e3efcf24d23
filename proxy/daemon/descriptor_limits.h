#pragma once

#include <cstdint>

#include "proxy/config/config.h"

namespace relayd {

// RLIMIT_NOFILE as relayd was started with it, and after it raised its own soft limit to the hard one
// (setrlimit(2)).
struct DescriptorLimits {
  std::uint64_t original_soft = 0;
  std::uint64_t original_hard = 0;
  std::uint64_t now = 0;
};
DescriptorLimits raise_descriptor_limit();
std::uint64_t descriptor_limit();  // as it is now

// How many of `limit` clients and their backend connections may use: what relayd itself needs, at most, is
// kept back, so that a rollover, a health check or `relayctl status` works also when clients have taken all
// they may.
std::uint64_t descriptors_for_clients(std::uint64_t limit, const config::Config& config, unsigned threads);

// Workers of the data plane; where the configuration does not say, the CPUs this process may use
// (sched_getaffinity(2)); at least 1.
unsigned threads_of(const config::Config& config);

}  // namespace relayd
