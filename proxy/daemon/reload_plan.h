#pragma once

#include <string>
#include <vector>

#include "proxy/config/config.h"

namespace relayd {

// What a new configuration asks for, compared with the running one. Pure: made whole before anything is
// touched.
struct ReloadPlan {
  std::vector<std::string> add;
  std::vector<std::string> remove;
  std::vector<std::string> roll_over;  // what a process was started with has changed
  std::vector<std::string> scale;      // the number of instances alone
  std::vector<std::string> adjust;     // takes effect in place: limits, timeouts, listeners, balance
  std::vector<std::string> unchanged;
  std::vector<std::string> needs_restart;  // keys outside `services` that are read only when relayd starts
};

ReloadPlan plan_reload(const config::Config& running, const config::Config& wanted);

// True where a process started by `wanted` would differ from one started by `running`: with handoff, which
// sockets it gets is part of that.
bool starts_differently(const config::Service& running, const config::Service& wanted);

}  // namespace relayd
