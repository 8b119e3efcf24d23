#include "control/protocol/requests.h"

#include <algorithm>

namespace relayd::control {

const std::vector<std::string_view>& method_names() {
  static const std::vector<std::string_view> names{
      "status",      "rollover",         "abort",         "pause", "resume",  "scale",  "reload",
      "connections", "events.subscribe", "events.recent", "stop",  "upgrade", "version"};
  return names;
}

std::string_view method_name(const Call& call) {
  static_assert(std::variant_size_v<Call> == 13);
  return method_names()[call.index()];
}

std::string not_built_method(std::string_view method) {
  if (method == "promote") return "canary rollovers and their promotion (promote)";
  if (method == "rollback") return "going back to a generation that was kept warm (rollback)";
  if (method == "doctor") return "checking limits, backlog and ports of the machine (doctor)";
  return {};
}

bool valid_env_name(std::string_view name) {
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; };
  const auto digit = [](char c) { return c >= '0' && c <= '9'; };
  return !name.empty() && letter(name.front()) &&
         std::ranges::all_of(name, [&](char c) { return letter(c) || digit(c); });
}

}  // namespace relayd::control
