#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

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
  // The rollover in progress goes to this, which counts as running once it serves.
  std::optional<config::Service> rolling_to;
  bool has_served = false;     // an instance was ready at least once
  std::string launch_failure;  // the first one's reason; empty: none
  bool leaving = false;        // taken out by a reload: stops, then goes
  // With `address: handoff` the app accepts, and the data plane never does. For the service's whole life.
  bool handed_over = false;

  // Listeners that were given up, until nobody waits in their queues any more; empty ones have come so far.
  std::vector<std::shared_ptr<Listeners>> leaving_listeners;

  // Those that the data plane accepts from.
  std::vector<const net::Listener*> accepting() const;
  // Takes on listeners just opened and gives up those that `wanted` no longer names, emptied first. Handed
  // over, the serving generation has what is given up, until keep_listeners().
  void change_listeners(net::DataPlane& data_plane, const config::Service& wanted, Listeners opened);
  // Takes what waits in them, and closes them.
  void empty_leaving(net::DataPlane& data_plane);
  // Handed over: closes relayd's own descriptors of what is not for one of `entries`.
  void keep_listeners(const std::vector<std::string>& entries);
  // What a generation of `wanted` is given: with handoff second descriptors of `listeners` and `opened`, in
  // the order of its `listen`, named as they were inherited or by the service; else nothing.
  Result<std::vector<backend::PublicSocket>> public_sockets(const config::Service& wanted,
                                                            const Listeners& opened = {}) const;
};

}  // namespace relayd
