#include "proxy/steering/census.h"

#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <unordered_map>

#include "proxy/steering/process_group.h"

namespace relayd::steering {
namespace {

constexpr std::uint32_t bit(int state) { return 1U << state; }
// TIME_WAIT belongs to nobody.
constexpr std::uint32_t kConnected = bit(TCP_ESTABLISHED) | bit(TCP_FIN_WAIT1) | bit(TCP_FIN_WAIT2) |
                                     bit(TCP_CLOSE_WAIT) | bit(TCP_LAST_ACK) | bit(TCP_CLOSING);
// A SYN whose answer got lost gets the next after one second, and then after two more (RFC 6298, 2.1
// and 5.5). Half-open connections of an attacker stand for a minute; nobody waits that long for them.
constexpr std::chrono::seconds kHandshake{4};

using Owners = std::unordered_map<std::uint32_t, pid_t>;  // inode -> group

Result<Owners> sockets_of(std::span<const pid_t> groups) {
  auto processes = processes_of(groups);
  if (!processes) return std::unexpected(processes.error());
  Owners owners;
  for (const Process& process : *processes) {
    auto looked =
        each_socket(process, [&](int, std::uint32_t inode) { owners.emplace(inode, process.group); });
    if (!looked) return std::unexpected(looked.error());
  }
  return owners;
}

}  // namespace

Result<std::vector<SteeredConnection>> steered_connections(SocketList& sockets, std::span<const pid_t> groups,
                                                           std::span<const std::uint16_t> ports) {
  auto owners = sockets_of(groups);
  if (!owners) return std::unexpected(owners.error());
  std::vector<SteeredConnection> connections;
  const auto keep = [&](const inet_diag_msg& socket) {
    const auto owner = owners->find(socket.idiag_inode);
    if (socket.idiag_inode == 0 || owner == owners->end()) return;
    connections.push_back({.local = local_of(socket),
                           .peer = peer_of(socket),
                           .group = owner->second,
                           .state = socket.idiag_state});
  };
  for (const std::uint16_t port : ports) {
    auto listed = sockets.each(port, kConnected, keep);
    if (!listed) return std::unexpected(listed.error());
  }
  return connections;
}

// An accepted socket is of its listener's family, also where it carries IPv4 over an IPv6 socket.
Result<void> DrainCount::each_connection(SocketList& sockets, std::uint32_t states,
                                         const std::function<void(const inet_diag_msg&)>& found) const {
  for (const int family : {AF_INET, AF_INET6}) {
    const auto is_of = [&](const Listener& listener) { return listener.family == family; };
    if (std::ranges::none_of(listeners_, is_of)) continue;
    for (const std::uint16_t port : ports_) {
      auto listed = sockets.each_of_family(family, port, states, found);
      if (!listed) return listed;
    }
  }
  return {};
}

Result<DrainCount::Left> DrainCount::look(SocketList& sockets, Clock::time_point now) {
  const auto before = Clock::now();
  auto left = count(sockets, now);
  cost_ = Clock::now() - before;
  return left;
}

// The queues are looked at first: what leaves them after that is found among the descriptors.
Result<DrainCount::Left> DrainCount::count(SocketList& sockets, Clock::time_point now) {
  Left left;
  if (!complete_) {
    auto handshakes = count_handshakes(sockets, now);
    if (!handshakes) return std::unexpected(handshakes.error());
    auto waiting = count_waiting(sockets);
    if (!waiting) return std::unexpected(waiting.error());
    left.handshakes = *handshakes;
    left.waiting = *waiting;
    const bool empty = *handshakes == 0 && *waiting == 0;
    auto learned = learn(sockets);
    if (!learned) return std::unexpected(learned.error());
    complete_ = empty && queues_were_empty_;
    queues_were_empty_ = empty;
  }
  auto connections = count_known(sockets);
  if (!connections) return std::unexpected(connections.error());
  left.connections = *connections;
  const bool empty = left.connections + left.waiting + left.handshakes == 0;
  left.drained = empty && was_empty_;
  was_empty_ = empty;
  return left;
}

// Those that stood at the first look; later ones are not this generation's.
Result<std::size_t> DrainCount::count_handshakes(SocketList& sockets, Clock::time_point now) {
  const bool first = !begun_;
  begun_ = true;
  if (first) handshakes_until_ = now + kHandshake;
  if (!first && (handshakes_.empty() || now >= handshakes_until_)) return 0;
  std::unordered_set<std::uint64_t> standing;
  auto listed = each_connection(sockets, bit(TCP_SYN_RECV), [&](const inet_diag_msg& socket) {
    const std::uint64_t cookie = cookie_of(socket);
    if (first || handshakes_.contains(cookie)) standing.insert(cookie);
  });
  if (!listed) return std::unexpected(listed.error());
  handshakes_ = std::move(standing);
  return handshakes_.size();
}

Result<std::size_t> DrainCount::count_waiting(SocketList& sockets) {
  std::size_t waiting = 0;
  for (const Listener& listener : listeners_) {
    auto listed =
        sockets.each_of_family(listener.family, listener.port, bit(TCP_LISTEN), [&](const auto& socket) {
          if (socket.idiag_inode == listener.inode) waiting += socket.idiag_rqueue;
        });
    if (!listed) return std::unexpected(listed.error());
  }
  return waiting;
}

Result<void> DrainCount::learn(SocketList& sockets) {
  auto owners = sockets_of(groups_);
  if (!owners) return std::unexpected(owners.error());
  return each_connection(sockets, kConnected, [&](const inet_diag_msg& socket) {
    if (socket.idiag_inode != 0 && owners->contains(socket.idiag_inode)) known_.insert(cookie_of(socket));
  });
}

Result<std::size_t> DrainCount::count_known(SocketList& sockets) {
  std::unordered_set<std::uint64_t> standing;
  auto listed = each_connection(sockets, kConnected, [&](const inet_diag_msg& socket) {
    const std::uint64_t cookie = cookie_of(socket);
    if (socket.idiag_inode != 0 && known_.contains(cookie)) standing.insert(cookie);
  });
  if (!listed) return std::unexpected(listed.error());
  known_ = std::move(standing);
  return known_.size();
}

}  // namespace relayd::steering
