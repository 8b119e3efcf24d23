#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "proxy/base/address.h"
#include "proxy/base/proxy_protocol.h"
#include "proxy/config/config.h"

namespace relayd::net {

using ServiceId = std::uint16_t;

// Which connections of a generation. Tunnels: what an HTTP client has turned into something else, by an
// Upgrade or CONNECT.
enum class ConnectionKind : std::uint8_t { kAll, kPlain, kTunnels };
// All where the kind is all: nothing is set apart.
constexpr ConnectionKind others(ConnectionKind kind) {
  return kind == ConnectionKind::kPlain     ? ConnectionKind::kTunnels
         : kind == ConnectionKind::kTunnels ? ConnectionKind::kPlain
                                            : ConnectionKind::kAll;
}

// Shared by all workers and read by the main thread: least_connections is true across threads. Outlives its
// route as long as a connection counts on it.
struct EndpointLoad {
  std::atomic<std::uint32_t> active{0};  // connections, and connects under way
  std::atomic<std::uint64_t> connections{0};
  std::atomic<std::uint64_t> connect_failures{0};
  std::atomic<std::uint64_t> requests{0};  // HTTP: answered whole
};

// One instance that takes new connections.
struct Endpoint {
  SocketAddress address;
  std::uint32_t generation = 0;
  std::uint16_t instance = 0;
  std::shared_ptr<EndpointLoad> load;
  // What each connection to it begins with: as its generation was started for, whatever a reload says since.
  std::optional<ProxyVersion> send_proxy = std::nullopt;
};

// Where new connections of a service go: immutable once handed to the workers. Without endpoints, clients are
// held.
struct Route {
  config::Balance balance = config::Balance::kLeastConnections;
  std::vector<Endpoint> endpoints;
};

}  // namespace relayd::net
