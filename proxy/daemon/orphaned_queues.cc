#include "proxy/daemon/orphaned_queues.h"

#include <poll.h>

#include <algorithm>

namespace relayd {
namespace {

// A SYN that was answered before the end of its listener becomes a connection in its queue a little later;
// its first two answers may have got lost (RFC 6298, 2.1 and 5.5).
constexpr Duration kLastHandshakes = std::chrono::seconds(4);

}  // namespace

void OrphanedQueues::take(steering::Switch& program, const SocketAddress& address,
                          std::vector<steering::FoundListener> sockets) {
  if (sockets.empty()) return;
  if (address.port() != 0) program.refuse(address);
  groups_.push_back({.address = address,
                     .sockets = std::make_shared<std::vector<steering::FoundListener>>(std::move(sockets)),
                     .busy = std::make_shared<bool>(false),
                     .until = monotonic_now() + kLastHandshakes});
  look(program);
}

void OrphanedQueues::look(steering::Switch& program) {
  const TimePoint now = monotonic_now();
  std::vector<Group> over;
  std::erase_if(groups_, [&](const Group& group) {
    if (*group.busy) return false;
    std::vector<int> waited_in;
    for (const auto& one : *group.sockets) {
      pollfd ready{one.socket.get(), POLLIN, 0};
      if (::poll(&ready, 1, 0) == 1 && (ready.revents & POLLIN) != 0) waited_in.push_back(one.socket.get());
    }
    if (waited_in.empty()) {
      if (now < group.until) return false;
      over.push_back(group);
      return true;
    }
    *group.busy = true;
    data_plane_.empty_queues(id_, waited_in, [sockets = group.sockets, busy = group.busy] { *busy = false; });
    return false;
  });
  for (const Group& group : over) accept_again(program, group);
}

void OrphanedQueues::save(upgrade::SteeredRecord& record) const {
  for (const Group& group : groups_) {
    auto& orphan = record.orphans.emplace_back();
    orphan.address = group.address;
    orphan.until = group.until;
    for (const auto& one : *group.sockets) orphan.sockets.push_back(steering::record_of(one));
  }
}

void OrphanedQueues::restore(const upgrade::SteeredRecord& record) {
  for (const auto& orphan : record.orphans) {
    auto sockets = std::make_shared<std::vector<steering::FoundListener>>();
    for (const auto& one : orphan.sockets) sockets->push_back(steering::found_listener(one));
    groups_.push_back({orphan.address, std::move(sockets), std::make_shared<bool>(false), orphan.until});
  }
}

void OrphanedQueues::give_up(steering::Switch& program) {
  for (const Group& group : std::exchange(groups_, {})) accept_again(program, group);
}

// Not while another group of that address is left.
void OrphanedQueues::accept_again(steering::Switch& program, const Group& over) const {
  const auto same = [&over](const Group& group) { return group.address == over.address; };
  if (over.address.port() != 0 && std::ranges::none_of(groups_, same)) program.accept_again(over.address);
}

}  // namespace relayd
