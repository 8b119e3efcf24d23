#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "proxy/net/connection.h"
#include "proxy/net/exchange.h"
#include "proxy/net/origins.h"
#include "proxy/net/route.h"

// What the data plane leaves to the next image of relayd, which goes on with it: plain data, with descriptors
// as numbers that nobody owns. What can be asked for again by the main thread (routes, listeners, drains)
// is not in it.
namespace relayd::net {

// Bytes of one direction that wait to be sent.
struct ParkedRecord {
  enum class Kind : std::uint8_t { kNothing, kBytes, kPipe };
  Kind kind = Kind::kNothing;
  std::string bytes;        // kBytes: the chunk from its beginning; what is before `begin` has been sent
  std::uint64_t begin = 0;  // kBytes
  std::uint64_t in_pipe = 0;
  int read = -1;  // kPipe
  int write = -1;
};

struct ExchangeRecord {
  Exchange exchange;    // `partial` means nothing
  std::string partial;  // beginning of a response's head
};

struct ConnectionRecord {
  Connection connection;   // parked, previous, next, endpoint, origin and exchange mean nothing
  Index index = kNone;     // its place in the worker's slab, which its events name
  Index endpoint = kNone;  // in the worker's record
  ParkedRecord parked[2];  // by direction
  std::optional<Origin> origin;
  std::optional<ExchangeRecord> exchange;
};

struct EndpointRecord {
  ServiceId service = 0;
  SocketAddress address;
  std::uint32_t generation = 0;
  std::uint16_t instance = 0;
  std::optional<ProxyVersion> send_proxy;
  bool has_failed = false;
  std::uint8_t failures = 0;
  Tick retry_at = 0;
};

// What a walk over all connections looks for.
enum class SweepWhat : std::uint8_t { kGeneration, kEnded, kHeld, kMove, kIdle, kAll };
// The others are the main thread's to ask for again.
inline constexpr SweepWhat kLastSweepOfARecord = SweepWhat::kMove;

// A walk that has not come to its end; it begins again.
struct SweepRecord {
  SweepWhat what = SweepWhat::kGeneration;
  ServiceId service = 0;
  std::uint32_t generation = 0;
  int instance = -1;
  ConnectionKind kind = ConnectionKind::kAll;
};

struct SpreadRecord {
  ServiceId service = 0;
  std::uint32_t generation = 0;
  ConnectionKind kind = ConnectionKind::kAll;
  Tick end = 0;
};

struct WorkerRecord {
  // Its epoll set, with everything in it that a connection says it watches, and nothing else. -1: there is
  // none, as the state is of version 2, or other workers go on; a new one is filled.
  int epoll = -1;
  std::uint64_t arrivals = 0;
  std::vector<EndpointRecord> endpoints;
  std::vector<ConnectionRecord> connections;  // of one service and state: in the order of their list
  std::vector<SweepRecord> sweeps;
  std::vector<SpreadRecord> spreads;
};

struct ServiceRecord {
  ServiceId id = 0;
  bool closing = false;  // whoever would have to wait is sent away
  std::int64_t next_release = 0;
  std::vector<std::uint64_t> totals;  // WorkerCounters of all workers, summed, in their order there
};

struct PlaneRecord {
  TimePoint began{};   // tick 0 of all workers
  TimePoint frozen{};  // when they stood still; ticks do until they go on
  std::vector<ServiceRecord> services;
  std::vector<WorkerRecord> workers;
};

// Why the record cannot be one; empty: it can. Numbers of descriptors are not looked at.
std::string fault_of(const PlaneRecord& record);

// The same connections for another number of workers, each with its part of them. Who waits longest comes
// first. Their epoll sets are nobody's.
std::vector<WorkerRecord> deal_out(const std::vector<WorkerRecord>& before, std::size_t workers);

// What counts the connections of an endpoint: asked once for each that a record names.
using LoadOf = std::function<std::shared_ptr<EndpointLoad>(const EndpointRecord&)>;

}  // namespace relayd::net
