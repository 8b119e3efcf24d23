#pragma once

#include <vector>

#include "proxy/config/checks.h"

namespace relayd::config {

// What a service with `steering: on | auto` asks for and cannot have, as it would be done with bytes or
// sockets that never come to relayd. Keys are relative to the service. Empty for other services.
std::vector<KeyFault> faults_of_steering(const Service& service);

}  // namespace relayd::config
