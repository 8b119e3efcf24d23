#pragma once

#include <vector>

#include "proxy/config/checks.h"

namespace relayd::config {

// What a service with `address: handoff` asks for and cannot have, since its app accepts from the public
// sockets itself and relayd never sees a client. Keys are relative to the service. Empty for other services.
std::vector<KeyFault> faults_of_handoff(const Service& service);

}  // namespace relayd::config
