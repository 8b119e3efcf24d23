#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "proxy/base/address.h"
#include "proxy/config/checks.h"
#include "proxy/config/config.h"

// Backends that somebody else runs: the entries of backend.targets and of `relayctl rollover --target`.
namespace relayd::config {

struct Target {
  std::optional<SocketAddress> address;  // where the entry is one: numeric, or a Unix socket's
  std::string host;                      // otherwise a name to be resolved
  std::uint16_t port = 0;                // 0 for Unix sockets
};

// "10.0.0.5:8000", "[fd00::5]:8000", "unix:/run/app.sock", "app.internal:8000". Names: RFC 1123, section 2.1,
// and underscores, which container networks use. The error says what was expected.
Result<Target> parse_target(std::string_view text);

// Whether the list can be one generation: its entries, their number, none twice. The error names the entry.
Result<void> check_targets(const std::vector<std::string>& targets);

// What cannot stand beside `targets`: whatever says how a process is started or stopped. Empty where there
// are none.
std::vector<KeyFault> target_faults(const Service& service);

}  // namespace relayd::config
