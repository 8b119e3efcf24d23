#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "proxy/base/address.h"
#include "proxy/net/route.h"
#include "proxy/rollover/record.h"

namespace relayd::rollover {

// The connections of one instance: counted at each address it is at, or was (a restarted process is at
// another, and a target's name may stand for several), and told in one sum.
class InstanceLoads {
 public:
  struct Counts {
    std::uint64_t active = 0;
    std::uint64_t connections = 0;
    std::uint64_t requests = 0;
  };

  // What workers count on; made where there is none.
  std::shared_ptr<net::EndpointLoad> of(const SocketAddress& address);
  Counts counts() const;
  // For an upgrade of relayd; restore() is for one that has counted nothing. What is active is counted anew
  // by the workers.
  void save(SlotRecord& record) const;
  void restore(const SlotRecord& record);
  // Sums up those that no route and no connection counts on any more.
  void fold();

 private:
  std::vector<std::pair<SocketAddress, std::shared_ptr<net::EndpointLoad>>> loads_;
  Counts past_;
};

}  // namespace relayd::rollover
