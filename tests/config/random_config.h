#pragma once

#include <random>
#include <string>

#include "proxy/config/config.h"

namespace relayd::config {

// Configurations of any values that a file can hold, sense or not, each member of which differs from its
// default. The services' names are unique.
Config random_config(std::mt19937& random);

// Text that a careless writer would not bring back: quotes, braces, line ends, what YAML takes for something
// else, non-ASCII, bytes that are no UTF-8; never empty.
std::string hostile_text(std::mt19937& random);

}  // namespace relayd::config
