#include "proxy/net/origins.h"

namespace relayd::net {

Index OriginTable::add(const Origin& origin) {
  if (free_.empty()) {
    origins_.push_back(origin);
    return static_cast<Index>(origins_.size() - 1);
  }
  const Index index = free_.back();
  free_.pop_back();
  origins_[index] = origin;
  return index;
}

}  // namespace relayd::net
