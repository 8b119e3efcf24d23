#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <unordered_set>
#include <vector>

#include "proxy/base/address.h"
#include "proxy/base/error.h"
#include "proxy/steering/socket_list.h"

// Whose a steered connection is can only be told from its socket: all carry the public port. A socket's inode
// (sock_diag) is looked for among the descriptors of the processes (/proc/PID/fd).
namespace relayd::steering {

struct SteeredConnection {
  SocketAddress local, peer;
  pid_t group = 0;
  int state = 0;  // TCP_ESTABLISHED…, of <netinet/tcp.h>
};

// The connections with one of these local ports that a process of these groups holds. What a process has
// closed is not among them, though the kernel may still be sending its last bytes.
Result<std::vector<SteeredConnection>> steered_connections(SocketList& sockets, std::span<const pid_t> groups,
                                                           std::span<const std::uint16_t> ports);

// Counts what a generation still has of the connections that were steered to it, from the moment on when no
// new ones are. The first looks read all descriptors of its processes; once its queues are empty, nothing can
// be added, and a look only lists the sockets of the ports.
class DrainCount {
 public:
  using Clock = std::chrono::steady_clock;

  struct Listener {
    std::uint32_t inode = 0;
    std::uint16_t port = 0;
    int family = 0;  // of the socket
  };
  // `groups`: the generation's; `ports`: the service's public ones; `listeners`: to which it was steered. To
  // be made after the switch.
  DrainCount(std::vector<pid_t> groups, std::vector<std::uint16_t> ports, std::vector<Listener> listeners)
      : groups_(std::move(groups)), ports_(std::move(ports)), listeners_(std::move(listeners)) {}

  struct Left {
    std::size_t connections = 0;  // held by the processes
    std::size_t waiting = 0;      // in the queues of the listeners
    std::size_t handshakes = 0;   // begun before the switch, not yet whole
    // A connection that its process takes from the queue just now is in neither for a moment, so this takes
    // two looks in a row that find nothing.
    bool drained = false;
  };
  Result<Left> look(SocketList& sockets, Clock::time_point now = Clock::now());
  // What the last look took: to look again when ten times as long has passed keeps it below a tenth of a CPU.
  Clock::duration cost() const { return cost_; }

 private:
  Result<Left> count(SocketList& sockets, Clock::time_point now);
  Result<std::size_t> count_waiting(SocketList& sockets);
  Result<std::size_t> count_handshakes(SocketList& sockets, Clock::time_point now);
  Result<void> learn(SocketList& sockets);
  Result<std::size_t> count_known(SocketList& sockets);
  Result<void> each_connection(SocketList& sockets, std::uint32_t states,
                               const std::function<void(const inet_diag_msg&)>& found) const;

  const std::vector<pid_t> groups_;
  const std::vector<std::uint16_t> ports_;
  const std::vector<Listener> listeners_;

  Clock::duration cost_{};
  bool begun_ = false;
  bool complete_ = false;  // known_ has all that there will be
  bool was_empty_ = false;
  bool queues_were_empty_ = false;
  Clock::time_point handshakes_until_{};
  std::unordered_set<std::uint64_t> handshakes_;  // cookies
  std::unordered_set<std::uint64_t> known_;       // cookies of the generation's connections
};

}  // namespace relayd::steering
