#pragma once

#include <sys/epoll.h>

#include <cstdint>

#include "proxy/net/connection.h"

// How a worker's sockets stand in its epoll set. An upgrade hands the sets over as they are, so that the next
// image reads these keys and relies on these events: a change of either needs a version of the state of its
// own (upgrade/record.h), for which the older ones are watched anew.
namespace relayd::net {

// Edge-triggered; EPOLLOUT comes where room is asked for. EPOLLPRI only tells of urgent data, which makes
// recv stop short.
inline constexpr std::uint32_t kWatchedEvents = EPOLLIN | EPOLLRDHUP | EPOLLPRI | EPOLLET;

// What an event of a connection carries: which one, which side, and enough to know an event of a socket that
// is gone. A closed socket leaves the epoll set only when its last copy is closed, and a child between fork
// and exec holds copies.
//   63 no connection | 61..57 attempt (backend side) | 56..33 arrival | 32..1 index | 0 side
constexpr std::uint64_t event_key(const Connection& connection, Index index, unsigned side) {
  const std::uint64_t attempt = side == kBackend ? connection.attempts & 0x1fU : 0;
  return attempt << 57 | (connection.id & 0xffffff) << 33 | std::uint64_t{index} << 1 | side;
}

}  // namespace relayd::net
