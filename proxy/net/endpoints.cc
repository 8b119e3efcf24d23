#include "proxy/net/endpoints.h"

namespace relayd::net {
namespace {

// An instance that refused is left alone for so long while another takes connections.
constexpr Tick kAvoidance = to_ticks(std::chrono::milliseconds(200));

}  // namespace

Index EndpointTable::name(ServiceId service, const Endpoint& endpoint) {
  Index spare = kNone;
  for (Index i = 0; i < entries_.size(); ++i) {
    Entry& entry = entries_[i];
    if (entry.users == 0 && entry.routes == 0) {
      spare = i;
    } else if (entry.service == service && entry.endpoint.load == endpoint.load &&
               entry.endpoint.address == endpoint.address) {
      ++entry.routes;
      return i;
    }
  }
  if (spare == kNone) {
    spare = static_cast<Index>(entries_.size());
    entries_.emplace_back();
  }
  entries_[spare] = Entry{.endpoint = endpoint, .service = service, .users = 0, .routes = 1};
  return spare;
}

bool EndpointTable::unname(Index index) {
  --entries_[index].routes;
  return drop_if_unused(index);
}

void EndpointTable::take(Index index) {
  ++entries_[index].users;
  entries_[index].endpoint.load->active.fetch_add(1, std::memory_order_relaxed);
}

bool EndpointTable::leave(Index index) {
  --entries_[index].users;
  entries_[index].endpoint.load->active.fetch_sub(1, std::memory_order_relaxed);
  return drop_if_unused(index);
}

bool EndpointTable::drop_if_unused(Index index) {
  if (entries_[index].users != 0 || entries_[index].routes != 0) return false;
  entries_[index] = Entry{};
  return true;
}

bool EndpointTable::has(ServiceId service, std::uint32_t generation, int instance) const {
  for (const Entry& entry : entries_) {
    const bool used = entry.users != 0 || entry.routes != 0;
    if (used && entry.service == service && is_of(entry.endpoint, generation, instance)) return true;
  }
  return false;
}

Index Balancer::pick(const EndpointTable& table, const std::vector<Index>& route, config::Balance balance,
                     std::uint64_t tried, Tick now) {
  const std::size_t size = route.size();
  if (size == 0) return kNone;
  // Two of which the less loaded is taken would do for random too; one is what its name says.
  const std::size_t start = balance == config::Balance::kRandom ? random_() % size : rotation_++ % size;
  Index best = kNone;
  Index resort = kNone;
  std::uint32_t least = 0;
  for (std::size_t step = 0; step < size; ++step) {
    const std::size_t position = (start + step) % size;
    if (tried & tried_bit(position)) continue;
    const EndpointTable::Entry& entry = table[route[position]];
    if (entry.has_failed && !reached(now, entry.failed_at + kAvoidance)) {
      if (resort == kNone) resort = route[position];
      continue;
    }
    if (balance != config::Balance::kLeastConnections) return route[position];
    const std::uint32_t active = entry.endpoint.load->active.load(std::memory_order_relaxed);
    if (best == kNone || active < least) {
      best = route[position];
      least = active;
    }
  }
  return best != kNone ? best : resort;
}

}  // namespace relayd::net
