#include "control/protocol/version.h"

namespace relayd::control {

std::string_view version() { return RELAYD_VERSION; }

}  // namespace relayd::control
