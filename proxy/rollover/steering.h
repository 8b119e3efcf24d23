#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "proxy/base/address.h"
#include "proxy/base/error.h"
#include "proxy/config/config.h"
#include "proxy/rollover/state.h"

namespace relayd::rollover {

// What takes the new connections of one service past the data plane, as its driver sees it. Everything
// belongs to the main thread. What is not steered goes to the data plane's listeners, as if this did not
// exist.
class Steering {
 public:
  virtual ~Steering() = default;

  // A new process of the instance is ready at `address`, and is the first of process group `group`. Error:
  // its definition asks for steering (`on`), and that is not possible; with `auto` it is forwarded to.
  virtual Result<void> instance_ready(GenerationNumber generation, InstanceIndex instance, pid_t group,
                                      const SocketAddress& address, config::Steering wanted) = 0;
  // New connections go to these and no others from now on; none: the data plane holds them. To be called
  // after the data plane has been given the same route.
  virtual void steer(const std::vector<RouteEntry>& route) = 0;
  // Calls `done` from the loop when a generation (or its one instance; -1: all) has none of the connections
  // left that were steered to it; false, and never, where none ever were. Call after the steer() without it;
  // one that names it again ends the count, and calls `done` too.
  virtual bool drain(GenerationNumber generation, int instance, std::function<void()> done) = 0;
  // The process has ended, and the route names it no more. Who waited in its queue is forwarded; with
  // `socket_stays` (activation) they wait for the next process, which gets the same socket, until this is
  // called without it.
  virtual void instance_ended(GenerationNumber generation, InstanceIndex instance, bool socket_stays) = 0;
  // For good: new connections go to the data plane's listeners, also after those have closed.
  virtual void stop() = 0;
  // Connections that were steered to it and stand; of a moment ago, as counting costs.
  virtual std::uint64_t connections(GenerationNumber generation, int instance) = 0;
};

}  // namespace relayd::rollover
