#include "proxy/config/not_built.h"

#include <algorithm>

#include "proxy/config/loader.h"
#include "proxy/config/words.h"

namespace relayd::config {
namespace {

// Which value was asked for, or empty where the service asks for nothing.
using Wanted = std::string (*)(const Service&);

struct Refusal {
  const char* key;
  Wanted wanted;
  const char* cure;
};

std::string longer_than_zero(Duration value) {
  return value > Duration::zero() ? format_duration(value) : "";
}

// Whoever builds a feature deletes its line.
constexpr Refusal kRefusals[] = {
    {"rollover.canary",
     [](const Service& s) { return s.rollover.canary == 0 ? "" : std::to_string(s.rollover.canary) + "%"; },
     "write '0%'"},
    {"rollover.monitor", [](const Service& s) { return longer_than_zero(s.rollover.monitor); }, "write '0s'"},
    {"rollover.failure_action",
     [](const Service& s) {
       return s.rollover.failure_action == FailureAction::kRollback
                  ? ""
                  : std::string(to_string(s.rollover.failure_action));
     },
     "write 'rollback'"},
};

std::string not_yet(std::string_view key, const std::string& value, std::string_view cure) {
  return "not in this version yet: '" + std::string(key) + ": " + value + "'; " + std::string(cure);
}

}  // namespace

void refuse_what_is_not_built(const Config& config, std::vector<KeyFault>& faults) {
  if (!config.admin_listen.empty()) {
    faults.push_back({"admin.listen", not_yet("admin.listen", config.admin_listen,
                                              "leave the section out and use 'relayctl status'")});
  }
  for (const Service& service : config.services) {
    const std::string prefix = "services." + service.name + ".";
    for (const Refusal& refusal : kRefusals) {
      const std::string value = refusal.wanted(service);
      if (!value.empty()) faults.push_back({prefix + refusal.key, not_yet(refusal.key, value, refusal.cure)});
    }
  }
}

}  // namespace relayd::config
