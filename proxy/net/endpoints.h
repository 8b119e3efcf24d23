#pragma once

#include <cstdint>
#include <memory>
#include <random>
#include <vector>

#include "proxy/net/connection.h"
#include "proxy/net/record.h"
#include "proxy/net/route.h"

namespace relayd::net {

// The instances that a worker's routes and connections refer to, by index. An entry lives while a route names
// it or a connection counts on it. One per worker; not thread-safe.
class EndpointTable {
 public:
  struct Entry {
    Endpoint endpoint;
    ServiceId service = 0;
    std::uint32_t users = 0;    // connections, and connects under way
    std::uint32_t routes = 0;   // 1 while the service's route names it
    bool has_failed = false;    // its last connect failed: passed over until a probe succeeds
    bool probed = false;        // by a connect under way
    std::uint8_t failures = 0;  // of probes, one after the other
    Tick retry_at = 0;          // when to probe next; meaningful where has_failed
  };

  // The entry of this endpoint, made where there is none, with one more route on it.
  Index name(ServiceId service, const Endpoint& endpoint);
  // The entry of an endpoint whose connections are taken over, which are to be taken next, or of which is
  // known that it has failed.
  Index adopt(const EndpointRecord& record, std::shared_ptr<EndpointLoad> load);
  // True where the entry is gone by it.
  bool unname(Index index);
  // A connection counts on it, from the choice to its close.
  void take(Index index);
  bool leave(Index index);

  void note_failure(Index index, Tick now);
  void note_success(Index index);

  Index size() const { return static_cast<Index>(entries_.size()); }
  Entry& operator[](Index index) { return entries_[index]; }
  const Entry& operator[](Index index) const { return entries_[index]; }
  // `instance` -1: any of them.
  bool has(ServiceId service, std::uint32_t generation, int instance) const;
  // Connections and connects under way.
  std::size_t users(ServiceId service, std::uint32_t generation) const;

 private:
  bool drop_if_unused(Index index);
  static void note(Entry& entry, const EndpointRecord& record);

  // Free where neither users nor routes are left, and nothing is known that a route might ask for.
  std::vector<Entry> entries_;
};

// A service's choice among the instances of its route.
class Balancer {
 public:
  // One whose bit in `tried` is not set; those that have failed only if there is no other. kNone: none is
  // left.
  Index pick(const EndpointTable& table, const std::vector<Index>& route, config::Balance balance,
             std::uint64_t tried);

 private:
  struct Choice {
    Index endpoint = kNone;
    std::size_t position = 0;
  };
  // The first from `start` on that may be taken, other than the one at `besides`.
  static Choice first_from(const EndpointTable& table, const std::vector<Index>& route, std::uint64_t tried,
                           std::size_t start, std::size_t besides);

  std::uint32_t rotation_ = 0;
  std::minstd_rand random_;
};

// `instance` -1: whichever.
constexpr bool is_of(const Endpoint& endpoint, std::uint32_t generation, int instance) {
  return endpoint.generation == generation && (instance < 0 || endpoint.instance == instance);
}

// Connection::tried tells so many positions of a route apart.
inline constexpr std::size_t kTriedBits = 64;
constexpr std::uint64_t tried_bit(std::size_t position) {
  return std::uint64_t{1} << (position % kTriedBits);
}

}  // namespace relayd::net
