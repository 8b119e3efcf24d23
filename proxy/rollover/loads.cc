#include "proxy/rollover/loads.h"

#include <algorithm>

namespace relayd::rollover {
namespace {

void add(InstanceLoads::Counts& sum, const net::EndpointLoad& load) {
  sum.active += load.active.load(std::memory_order_relaxed);
  sum.connections += load.connections.load(std::memory_order_relaxed);
  sum.requests += load.requests.load(std::memory_order_relaxed);
}

}  // namespace

std::shared_ptr<net::EndpointLoad> InstanceLoads::of(const SocketAddress& address) {
  const auto known = std::ranges::find_if(loads_, [&](const auto& entry) { return entry.first == address; });
  if (known != loads_.end()) return known->second;
  return loads_.emplace_back(address, std::make_shared<net::EndpointLoad>()).second;
}

InstanceLoads::Counts InstanceLoads::counts() const {
  Counts sum = past_;
  for (const auto& [address, load] : loads_) add(sum, *load);
  return sum;
}

void InstanceLoads::save(SlotRecord& record) const {
  record.past_connections = past_.connections;
  record.past_requests = past_.requests;
  for (const auto& [address, load] : loads_) {
    record.loads.push_back({address, load->connections.load(std::memory_order_relaxed),
                            load->connect_failures.load(std::memory_order_relaxed),
                            load->requests.load(std::memory_order_relaxed)});
  }
}

void InstanceLoads::restore(const SlotRecord& record) {
  past_.connections = record.past_connections;
  past_.requests = record.past_requests;
  for (const LoadRecord& saved : record.loads) {
    const auto load = of(saved.address);
    load->connections.store(saved.connections, std::memory_order_relaxed);
    load->connect_failures.store(saved.connect_failures, std::memory_order_relaxed);
    load->requests.store(saved.requests, std::memory_order_relaxed);
  }
}

void InstanceLoads::fold() {
  std::erase_if(loads_, [this](const auto& entry) {
    if (entry.second.use_count() > 1) return false;
    add(past_, *entry.second);
    return true;
  });
}

}  // namespace relayd::rollover
