#include "proxy/backend/own_children.h"

#include <map>

namespace relayd::backend::own_children {
namespace {

std::map<pid_t, std::function<void()>>& table() {
  static std::map<pid_t, std::function<void()>> children;
  return children;
}

}  // namespace

void add(pid_t pid, std::function<void()> reap) { table()[pid] = std::move(reap); }
void remove(pid_t pid) { table().erase(pid); }
bool contains(pid_t pid) { return table().contains(pid); }

bool reap(pid_t pid) {
  const auto found = table().find(pid);
  if (found == table().end()) return false;
  const auto callback = found->second;  // a copy: it removes itself
  callback();
  return true;
}

std::size_t count() { return table().size(); }

std::vector<pid_t> all() {
  std::vector<pid_t> pids;
  for (const auto& [pid, reap] : table()) pids.push_back(pid);
  return pids;
}

}  // namespace relayd::backend::own_children
