#include "proxy/net/endpoints.h"

#include <algorithm>

namespace relayd::net {
namespace {

// An instance that failed is probed after this, and after each probe that fails in twice the time.
constexpr Tick kFirstProbe = to_ticks(std::chrono::milliseconds(200));
constexpr unsigned kMostDoublings = 5;  // to 6.4 s

std::uint32_t active(const EndpointTable::Entry& entry) {
  return entry.endpoint.load->active.load(std::memory_order_relaxed);
}

}  // namespace

Index EndpointTable::name(ServiceId service, const Endpoint& endpoint) {
  Index spare = kNone;
  for (Index i = 0; i < entries_.size(); ++i) {
    Entry& entry = entries_[i];
    // Also one that was adopted for what is known of it, and that nobody uses yet.
    if (entry.service == service && entry.endpoint.load == endpoint.load &&
        entry.endpoint.address == endpoint.address) {
      ++entry.routes;
      return i;
    }
    if (entry.users == 0 && entry.routes == 0 && !entry.has_failed) spare = i;
  }
  if (spare == kNone) {
    spare = static_cast<Index>(entries_.size());
    entries_.emplace_back();
  }
  entries_[spare] = Entry{.endpoint = endpoint, .service = service, .users = 0, .routes = 1};
  return spare;
}

void EndpointTable::note(Entry& entry, const EndpointRecord& record) {
  entry.has_failed = record.has_failed;
  entry.failures = record.failures;
  entry.retry_at = record.retry_at;
}

Index EndpointTable::adopt(const EndpointRecord& record, std::shared_ptr<EndpointLoad> load) {
  for (Index i = 0; i < entries_.size(); ++i) {
    Entry& entry = entries_[i];
    if (entry.service == record.service && entry.endpoint.load == load &&
        entry.endpoint.address == record.address) {
      if (!entry.has_failed) note(entry, record);
      return i;
    }
  }
  Entry& entry = entries_.emplace_back();
  entry.endpoint = {record.address, record.generation, record.instance, std::move(load), record.send_proxy};
  entry.service = record.service;
  note(entry, record);
  return static_cast<Index>(entries_.size() - 1);
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

std::size_t EndpointTable::users(ServiceId service, std::uint32_t generation) const {
  std::size_t sum = 0;
  for (const Entry& entry : entries_) {
    if (entry.users != 0 && entry.service == service && entry.endpoint.generation == generation)
      sum += entry.users;
  }
  return sum;
}

void EndpointTable::note_failure(Index index, Tick now) {
  Entry& entry = entries_[index];
  const unsigned doublings = std::min<unsigned>(entry.failures, kMostDoublings);
  if (!entry.has_failed || entry.probed) entry.retry_at = now + (kFirstProbe << doublings);
  if (entry.probed && entry.failures < kMostDoublings) ++entry.failures;
  entry.has_failed = true;
  entry.probed = false;
}

void EndpointTable::note_success(Index index) {
  entries_[index].has_failed = false;
  entries_[index].probed = false;
  entries_[index].failures = 0;
}

Index Balancer::pick(const EndpointTable& table, const std::vector<Index>& route, config::Balance balance,
                     std::uint64_t tried) {
  const std::size_t size = route.size();
  if (size == 0) return kNone;
  const bool random = balance == config::Balance::kRandom;
  const std::size_t start = random ? random_() % size : rotation_++ % size;
  Choice best = first_from(table, route, tried, start, size);
  if (best.endpoint == kNone) {  // only such as have failed are left
    for (std::size_t step = 0; step < size; ++step) {
      const std::size_t position = (start + step) % size;
      if (!(tried & tried_bit(position))) return route[position];
    }
    return kNone;
  }
  if (random) {  // of two, the one with less to do: nearly as even as looking at all (Mitzenmacher 2001)
    const Choice other = first_from(table, route, tried, random_() % size, best.position);
    if (other.endpoint != kNone && active(table[other.endpoint]) < active(table[best.endpoint])) best = other;
  }
  if (balance != config::Balance::kLeastConnections) return best.endpoint;
  std::uint32_t least = active(table[best.endpoint]);
  for (std::size_t step = 0; step < size; ++step) {
    const std::size_t position = (start + step) % size;
    const EndpointTable::Entry& entry = table[route[position]];
    if ((tried & tried_bit(position)) || entry.has_failed || active(entry) >= least) continue;
    best.endpoint = route[position];
    least = active(entry);
  }
  return best.endpoint;
}

Balancer::Choice Balancer::first_from(const EndpointTable& table, const std::vector<Index>& route,
                                      std::uint64_t tried, std::size_t start, std::size_t besides) {
  for (std::size_t step = 0; step < route.size(); ++step) {
    const std::size_t position = (start + step) % route.size();
    if (position == besides || (tried & tried_bit(position)) || table[route[position]].has_failed) continue;
    return {route[position], position};
  }
  return {};
}

}  // namespace relayd::net
