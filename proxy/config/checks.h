#pragma once

#include <string>
#include <vector>

#include "proxy/config/config.h"

namespace relayd::config {

// A fault that belongs to a key, named by its path in the tree: "services.web.hold.release_rate".
struct KeyFault {
  std::string key;
  std::string message;
};

// What the types alone cannot say: values out of range, combinations that cannot work, templates with unknown
// names, and keys of the contract that this version does not carry out. Used by the loader (which adds the
// place in the file) and for the command line. Empty: the configuration can be run.
std::vector<KeyFault> check(const Config& config);

}  // namespace relayd::config
