#pragma once

#include <cstdint>
#include <expected>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "control/protocol/messages.h"

// What a client may ask, as plain data: one struct per method, one member per parameter. json.h reads and
// writes them. An empty `service` means the only one, or all, as PROTOCOL.md says per method.
namespace relayd::control {

struct StatusCall {
  std::string service;
  bool operator==(const StatusCall&) const = default;
};
struct RolloverCall {
  std::string service;
  std::optional<std::string> mode;  // phased, hot, restart; none: the configured one
  std::map<std::string, std::string> env;
  bool until_drained = false;  // "until": "ready" or "drained"
  bool dry_run = false;
  std::vector<std::string> targets = {};  // of the new generation; empty: the configured ones
  bool operator==(const RolloverCall&) const = default;
};
struct AbortCall {
  std::string service;
  bool operator==(const AbortCall&) const = default;
};
struct PauseCall {
  std::string service;
  bool operator==(const PauseCall&) const = default;
};
struct ResumeCall {
  std::string service;
  bool operator==(const ResumeCall&) const = default;
};
struct ScaleCall {
  std::string service;
  unsigned instances = 0;  // 1 to kMostInstances
  bool operator==(const ScaleCall&) const = default;
};
struct ReloadCall {
  bool operator==(const ReloadCall&) const = default;
};
struct ConnectionsCall {
  std::string service;
  std::optional<std::uint32_t> generation;
  bool operator==(const ConnectionsCall&) const = default;
};
// The kept events after sequence number `since` (all of them where it is not given), of these the newest
// `recent` (where given), and of `service` and relayd itself only. A subscription starts with these only if
// one of the two is given, and goes on with every new event.
struct SubscribeCall {
  std::string service;
  std::optional<std::uint64_t> since;
  std::optional<unsigned> recent;
  bool operator==(const SubscribeCall&) const = default;
};
struct RecentCall {
  std::string service;
  std::optional<std::uint64_t> since;
  std::optional<unsigned> recent;
  bool operator==(const RecentCall&) const = default;
};
struct StopCall {
  bool now = false;
  bool operator==(const StopCall&) const = default;
};
struct UpgradeCall {
  std::string binary;  // the executable to become; empty: what lies at relayd's own path now
  bool operator==(const UpgradeCall&) const = default;
};
struct VersionCall {
  bool operator==(const VersionCall&) const = default;
};

using Call = std::variant<StatusCall, RolloverCall, AbortCall, PauseCall, ResumeCall, ScaleCall, ReloadCall,
                          ConnectionsCall, SubscribeCall, RecentCall, StopCall, UpgradeCall, VersionCall>;

// More processes than this of one service is a typing error, not a wish.
inline constexpr unsigned kMostInstances = 1000;

// "status", "events.subscribe" …, in the order of Call's alternatives.
const std::vector<std::string_view>& method_names();
std::string_view method_name(const Call& call);
// What the contract promises and this version does not do yet; empty for everything else.
std::string not_built_method(std::string_view method);

// A name for an environment variable: letters, digits and _, no digit first.
bool valid_env_name(std::string_view name);

}  // namespace relayd::control
