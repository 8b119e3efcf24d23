#pragma once

#include "control/protocol/messages.h"
#include "proxy/daemon/daemon.h"

namespace relayd {

control::ServiceStatus status_of(const HostedService& service, net::DataPlane& data_plane);

}  // namespace relayd
