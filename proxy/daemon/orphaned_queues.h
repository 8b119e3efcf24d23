#pragma once

#include <memory>
#include <vector>

#include "proxy/base/time.h"
#include "proxy/net/data_plane.h"
#include "proxy/steering/listeners.h"
#include "proxy/steering/switch.h"
#include "proxy/upgrade/record.h"

namespace relayd {

// Queues of listening sockets that their process has closed, or ended with: whoever waits in them, or comes
// to them by a handshake that is under way, is accepted by the data plane and forwarded. Belongs to the main
// thread.
class OrphanedQueues {
 public:
  OrphanedQueues(net::DataPlane& data_plane, net::ServiceId id) : data_plane_(data_plane), id_(id) {}

  // `address` refuses whoever connects to it until its queues are over: or the data plane would connect to a
  // queue that only it empties, and health checks would pass. Without a port (SocketAddress()) others still
  // listen there. The switch is to outlive the queues, or give_up().
  void take(steering::Switch& program, const SocketAddress& address,
            std::vector<steering::FoundListener> sockets);
  // To be called again and again, until empty().
  void look(steering::Switch& program);
  // For an upgrade of relayd; restore() owns the descriptors.
  void save(upgrade::SteeredRecord& record) const;
  void restore(const upgrade::SteeredRecord& record);
  bool empty() const { return groups_.empty(); }
  // Whoever still waits is reset.
  void give_up(steering::Switch& program);

 private:
  struct Group {
    SocketAddress address;
    std::shared_ptr<std::vector<steering::FoundListener>> sockets;
    std::shared_ptr<bool> busy;  // the data plane empties them just now
    TimePoint until{};
  };
  void accept_again(steering::Switch& program, const Group& over) const;

  net::DataPlane& data_plane_;
  const net::ServiceId id_;
  std::vector<Group> groups_;
};

}  // namespace relayd
