#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace relayd::control {

// The name that was most likely meant by the misspelt `word`; empty where none is near (more than a third of
// it wrong).
std::string nearest(std::string_view word, const std::vector<std::string_view>& names);

}  // namespace relayd::control
