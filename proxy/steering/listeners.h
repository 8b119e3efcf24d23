#pragma once

#include <sys/types.h>

#include <cstdint>
#include <vector>

#include "proxy/base/address.h"
#include "proxy/base/descriptor.h"
#include "proxy/base/error.h"
#include "proxy/steering/record.h"
#include "proxy/steering/socket_list.h"

namespace relayd::steering {

// A listening socket of another process.
struct FoundListener {
  // A duplicate: shares the open file description, O_NONBLOCK too, and keeps socket and queue when the
  // process ends.
  Descriptor socket;
  SocketAddress address;
  int family = 0;  // of the socket, and of all that it accepts
  std::uint32_t inode = 0;
  pid_t pid = 0;  // where it was found, as which descriptor
  int fd = -1;
};

ListenerRecord record_of(const FoundListener& listener);
// Owns the record's duplicate.
FoundListener found_listener(const ListenerRecord& record);

// True while that process still has it open there. A duplicate outlives that, and so does whatever comes into
// its queue: nobody may be accepting.
bool is_held(const FoundListener& listener);

// Every TCP socket on which a process of this group listens at this local port: several where it uses
// SO_REUSEPORT, or IPv4 and IPv6. An empty list is an error (ENOENT), as is a process that may not be looked
// at (EACCES, EPERM); a process that ends meanwhile is none.
Result<std::vector<FoundListener>> find_listeners(SocketList& sockets, pid_t group, std::uint16_t port);

}  // namespace relayd::steering
