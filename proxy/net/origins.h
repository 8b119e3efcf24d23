#pragma once

#include <vector>

#include "proxy/base/address.h"
#include "proxy/net/connection.h"

namespace relayd::net {

// What a client's PROXY header told: whom the connection is from, and where it went to.
struct Origin {
  SocketAddress source;
  SocketAddress destination;
};

// The origins of one worker's clients, by index; only services that accept PROXY headers have any. Not
// thread-safe.
class OriginTable {
 public:
  Index add(const Origin& origin);
  void drop(Index index) { free_.push_back(index); }
  const Origin& operator[](Index index) const { return origins_[index]; }

 private:
  std::vector<Origin> origins_;
  std::vector<Index> free_;
};

}  // namespace relayd::net
