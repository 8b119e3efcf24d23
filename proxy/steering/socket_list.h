#pragma once

#include <linux/inet_diag.h>

#include <cstdint>
#include <functional>
#include <vector>

#include "proxy/base/address.h"
#include "proxy/base/descriptor.h"
#include "proxy/base/error.h"

namespace relayd::steering {

// The TCP sockets of this network namespace, as sock_diag(7) lists them. Needs no privilege.
class SocketList {
 public:
  static Result<SocketList> open();

  // Calls `found` for every IPv4 and IPv6 socket with this local port in one of `states` (bits 1 << TCP_…).
  // What opens or closes meanwhile is listed or not. With each_of_family() only the AF_INET or AF_INET6
  // sockets, for half of the cost: the kernel walks its whole table for each.
  Result<void> each(std::uint16_t local_port, std::uint32_t states,
                    const std::function<void(const inet_diag_msg&)>& found);
  Result<void> each_of_family(int family, std::uint16_t local_port, std::uint32_t states,
                              const std::function<void(const inet_diag_msg&)>& found);

 private:
  explicit SocketList(Descriptor netlink);
  // One answer's messages; true when the list is at its end.
  Result<bool> read_some(const std::function<void(const inet_diag_msg&)>& found);

  Descriptor netlink_;
  std::vector<char> buffer_;
  std::uint32_t sequence_ = 0;
};

// Never used again by another socket while the system runs; a socket keeps it from the SYN on.
inline std::uint64_t cookie_of(const inet_diag_msg& socket) {
  return std::uint64_t{socket.id.idiag_cookie[1]} << 32 | socket.id.idiag_cookie[0];
}
// An IPv4 connection of an IPv6 socket has IPv4 addresses.
SocketAddress local_of(const inet_diag_msg& socket);
SocketAddress peer_of(const inet_diag_msg& socket);

}  // namespace relayd::steering
