#pragma once

#include <sys/types.h>

#include <cstdint>
#include <utility>
#include <vector>

#include "proxy/base/address.h"
#include "proxy/steering/program.h"

// What the steering program and what is known of steered apps leave to the next image of relayd: plain data,
// with descriptors as numbers that nobody owns.
namespace relayd::steering {

// Of the maps, as program.h describes them. One that does not know it leaves them alone.
inline constexpr std::uint32_t kLayout = 1;

struct SwitchRecord {
  std::uint32_t layout = kLayout;
  int addresses = -1, services = -1, sockets = -1, link = -1;
  std::vector<std::pair<std::uint32_t, SocketRow>> rows;  // of the services in use
  std::uint32_t next_place = 0;
  std::vector<std::pair<AddressKey, std::uint32_t>> known;  // addresses and their services
};

struct ListenerRecord {
  int socket = -1;
  SocketAddress address;
  int family = 0;
  std::uint32_t inode = 0;
  pid_t pid = 0;
  int fd = -1;  // of that process
};

}  // namespace relayd::steering
