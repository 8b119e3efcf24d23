#pragma once

#include <functional>
#include <memory>
#include <string>

#include "proxy/daemon/listeners.h"
#include "proxy/daemon/steered_service.h"
#include "proxy/rollover/driver.h"

namespace relayd {

// A service as the daemon holds it: its listeners, which stay for its whole life, and the driver of its
// generations.
struct HostedService {
  std::string name;
  net::ServiceId id = 0;
  Listeners listeners;
  std::unique_ptr<SteeredService> steering;  // outlives the driver
  std::unique_ptr<rollover::Driver> driver;
  bool has_served = false;     // an instance was ready at least once
  std::string launch_failure;  // the first one's reason; empty: none
  bool leaving = false;        // taken out by a reload: stops, then goes

  std::vector<const net::Listener*> all_listeners() const;
  // Takes on listeners just opened and gives up those that `wanted` no longer names, emptied first.
  void change_listeners(net::DataPlane& data_plane, const config::Service& wanted, Listeners opened);
};

}  // namespace relayd
