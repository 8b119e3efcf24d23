#pragma once

#include <cstddef>

#include "proxy/base/time.h"

namespace relayd::control {

// What one client, or all of them, may cost relayd. Tests make them small.
struct Limits {
  std::size_t message = std::size_t{64}
                        << 10;    // bytes of one line; the longest rollover request is far below
  std::size_t clients = 64;       // connections at once; each may carry many requests
  std::size_t outstanding = 256;  // requests of one client without an answer
  std::size_t outstanding_bytes = std::size_t{1}
                                  << 20;      // of these, as they are kept for an upgrade of relayd
  std::size_t unsent = std::size_t{1} << 20;  // bytes; a follower that lags behind further is dropped
  std::size_t unsent_pause = std::size_t{128}
                             << 10;  // bytes; above it no further request of that client is read
  Duration half_message{30'000};     // from a line's first byte to its end
  Duration last_flush{250};          // for all clients together, when the server ends
};

}  // namespace relayd::control
