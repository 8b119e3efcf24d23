#include <algorithm>
#include <numeric>

#include "proxy/net/chunk_pool.h"
#include "proxy/net/record.h"

namespace relayd::net {
namespace {

// A slab is an array; so many connections want more descriptors than fs.nr_open gives unless it is raised.
constexpr Index kMostPlaces = Index{1} << 22;

bool is_listed(State state) { return state > State::kFree && state < State::kClosed; }

std::string fault_of(const ParkedRecord& parked) {
  switch (parked.kind) {
    case ParkedRecord::Kind::kNothing:
      return "";
    case ParkedRecord::Kind::kBytes:
      if (parked.bytes.size() > kChunkSize) return "it has parked more bytes than this relayd can";
      return parked.begin <= parked.bytes.size() ? "" : "it has sent more bytes than it has parked";
    case ParkedRecord::Kind::kPipe:
      return parked.read >= 0 && parked.write >= 0 ? "" : "it has a pipe without ends";
  }
  return "it has parked something unknown";
}

std::string fault_of(const ConnectionRecord& record, const WorkerRecord& worker) {
  const Connection& c = record.connection;
  if (worker.epoll >= 0 && record.index >= kMostPlaces) return "it has no place";
  if (!is_listed(c.state)) return "it is in no state";
  if (c.fd[kClient] < 0 && c.fd[kBackend] < 0) return "it has no socket";
  if (c.fd[kClient] < 0 && c.state != State::kResetting) return "it has no client";
  for (const unsigned from : {kClient, kBackend}) {
    if (c.flow[from] > Flow::kDiscard) return "its flow is unknown";
    if (auto fault = fault_of(record.parked[from]); !fault.empty()) return fault;
  }
  const bool has_backend = c.state == State::kConnecting;
  if (has_backend && (c.fd[kBackend] < 0 || record.endpoint == kNone)) return "it has no backend";
  if (record.endpoint != kNone && record.endpoint >= worker.endpoints.size())
    return "its endpoint is unknown";
  // A backend's socket is counted on somebody; only what ends is not.
  const bool ends = c.state == State::kResetting || c.state == State::kLingering;
  if (c.fd[kBackend] >= 0 && record.endpoint == kNone && !ends) return "its backend is unknown";
  const bool http = c.state == State::kIdle || c.state == State::kGuessing || c.state == State::kReading;
  if (http && !record.exchange) return "it speaks HTTP and has no exchange";
  if (!record.exchange) return "";
  const Exchange& exchange = record.exchange->exchange;
  if (exchange.stage > Stage::kAnswering) return "the stage of its exchange is unknown";
  if (!exchange.request.is_sound() || !exchange.response.is_sound())
    return "a body of its exchange cannot be";
  if (record.exchange->partial.size() > kChunkSize) return "the head of its response is too long";
  const bool in_pipe = record.parked[kClient].kind == ParkedRecord::Kind::kPipe;
  const std::size_t parked = record.parked[kClient].bytes.size();
  // The request in hand lies in what is parked; a spliced body follows one that has left.
  if (!in_pipe && record.parked[kClient].kind == ParkedRecord::Kind::kBytes && exchange.request_end > parked)
    return "its request is longer than what it has parked";
  return "";
}

bool have_places_of_their_own(const WorkerRecord& worker) {
  std::vector<Index> places;
  for (const ConnectionRecord& connection : worker.connections) places.push_back(connection.index);
  std::ranges::sort(places);
  return std::ranges::adjacent_find(places) == places.end();
}

// Whoever comes first in a list of connections of this state.
bool comes_before(const ConnectionRecord& a, const ConnectionRecord& b) {
  const Connection& one = a.connection;
  const Connection& other = b.connection;
  if (one.state != other.state) return one.state < other.state;
  // What ends is looked through as a whole; its `due` means something else.
  if (one.state == State::kResetting || one.state == State::kLingering) return false;
  if (one.state != State::kHeld) return one.due != other.due && reached(other.due, one.due);
  const auto since = [](const ConnectionRecord& record) {  // Worker::arrived_before()
    const bool kept = record.exchange && record.exchange->exchange.generation != 0;
    return kept ? record.connection.held_since : record.connection.opened;
  };
  const Tick first = since(a);
  const Tick second = since(b);
  return first != second && reached(second, first);
}

}  // namespace

std::string fault_of(const PlaneRecord& record) {
  const auto known = [&record](ServiceId id) {
    return std::ranges::any_of(record.services, [id](const ServiceRecord& s) { return s.id == id; });
  };
  for (const WorkerRecord& worker : record.workers) {
    if (worker.epoll >= 0 && !have_places_of_their_own(worker)) return "two connections have one place";
    for (const EndpointRecord& endpoint : worker.endpoints) {
      if (!known(endpoint.service)) return "an endpoint is of no service";
    }
    for (const ConnectionRecord& connection : worker.connections) {
      const std::string fault =
          known(connection.connection.service) ? fault_of(connection, worker) : "it is of no service";
      if (!fault.empty()) return "connection " + std::to_string(connection.connection.id) + ": " + fault;
    }
    for (const SweepRecord& sweep : worker.sweeps) {
      if (!known(sweep.service)) return "a walk is over no service";
    }
    for (const SpreadRecord& spread : worker.spreads) {
      if (!known(spread.service)) return "closes are spread over no service";
    }
  }
  return "";
}

std::vector<WorkerRecord> deal_out(const std::vector<WorkerRecord>& before, std::size_t workers) {
  WorkerRecord all;
  for (const WorkerRecord& worker : before) {
    const auto offset = static_cast<Index>(all.endpoints.size());
    all.arrivals = std::max(all.arrivals, worker.arrivals);
    all.endpoints.insert(all.endpoints.end(), worker.endpoints.begin(), worker.endpoints.end());
    all.sweeps.insert(all.sweeps.end(), worker.sweeps.begin(), worker.sweeps.end());
    for (const SpreadRecord& spread : worker.spreads) {  // each worker spread its part of the same closes
      const bool again = std::ranges::any_of(all.spreads, [&spread](const SpreadRecord& s) {
        return s.service == spread.service && s.generation == spread.generation && s.kind == spread.kind;
      });
      if (!again) all.spreads.push_back(spread);
    }
    for (ConnectionRecord connection : worker.connections) {
      if (connection.endpoint != kNone) connection.endpoint += offset;
      all.connections.push_back(std::move(connection));
    }
  }
  std::vector<std::size_t> order(all.connections.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::ranges::sort(order, [&all](std::size_t one, std::size_t other) {
    const ConnectionRecord& a = all.connections[one];
    const ConnectionRecord& b = all.connections[other];
    return comes_before(a, b) || (!comes_before(b, a) && one < other);
  });
  std::vector<WorkerRecord> after(workers);
  for (WorkerRecord& worker : after) {
    worker.arrivals = all.arrivals;
    worker.endpoints = all.endpoints;
    worker.sweeps = all.sweeps;
    worker.spreads = all.spreads;
  }
  for (std::size_t i = 0; i < order.size(); ++i)
    after[i % workers].connections.push_back(std::move(all.connections[order[i]]));
  return after;
}

}  // namespace relayd::net
