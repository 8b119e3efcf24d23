#include <unistd.h>

#include <algorithm>
#include <stdexcept>

#include "proxy/net/worker.h"

// A worker's connections as plain data, and back, for an upgrade of relayd. Everything that a connection is
// stands in its record; the lists and tables around it are made anew.
namespace relayd::net {
void Worker::halt() {
  {
    const std::lock_guard lock(mail_mutex_);
    halt_asked_ = true;
  }
  post([](Worker& worker) { worker.halting_ = true; });
}

bool Worker::has_halted(TimePoint end) {
  std::unique_lock lock(mail_mutex_);
  return halt_changed_.wait_until(lock, end, [this] { return halted_; });
}

void Worker::go_on() {
  const std::lock_guard lock(mail_mutex_);
  halt_asked_ = false;
  halt_changed_.notify_all();
}

// Not where whoever has asked for it has given up.
void Worker::stand_still() {
  std::unique_lock lock(mail_mutex_);
  halted_ = true;
  halt_changed_.notify_all();
  halt_changed_.wait(lock, [this] { return !halt_asked_; });
  halted_ = halting_ = false;
  stopping_ = stop_asked_;  // at once: what it holds may be another plane's by now
  lock.unlock();
  if (!stopping_) set_accepting(true);
}

WorkerRecord Worker::save(bool whole) {
  WorkerRecord record;
  record.epoll = epoll_.get();
  record.arrivals = arrivals_;
  std::vector<Index> numbers(endpoints_.size(), kNone);  // in the record, by their place in the table
  for (Index i = 0; i < endpoints_.size(); ++i) {
    const EndpointTable::Entry& entry = endpoints_[i];
    const bool is_passed_over = entry.routes != 0 && entry.has_failed;
    if (entry.users == 0 && !is_passed_over) continue;
    numbers[i] = static_cast<Index>(record.endpoints.size());
    record.endpoints.push_back({.service = entry.service,
                                .address = entry.endpoint.address,
                                .generation = entry.endpoint.generation,
                                .instance = entry.endpoint.instance,
                                .send_proxy = entry.endpoint.send_proxy,
                                .has_failed = entry.has_failed,
                                .failures = entry.failures,
                                .retry_at = entry.retry_at});
  }
  for (const auto& service : services_) {
    if (service == nullptr) continue;
    for (const IndexList* list :
         {&service->greeting, &service->guessing, &service->reading, &service->idle, &service->held,
          &service->connecting, &service->relaying, &service->ending}) {
      for (Index index = list->front(); index != kNone; index = slab_[index].next)
        record.connections.push_back(save_connection(index, numbers, whole));
    }
  }
  for (const Sweep& sweep : sweeps_) {
    if (sweep.what > kLastSweepOfARecord || find(sweep.service) == nullptr) continue;
    record.sweeps.push_back({sweep.what, sweep.service, sweep.generation, sweep.instance, sweep.kind});
  }
  for (const Spread& spread : spreads_) {
    if (find(spread.service) != nullptr)
      record.spreads.push_back({spread.service, spread.generation, spread.kind, spread.end});
  }
  return record;
}

std::vector<ServiceId> Worker::closing_services() const {
  std::vector<ServiceId> closing;
  for (const auto& service : services_) {
    if (service != nullptr && service->closing) closing.push_back(service->id);
  }
  return closing;
}

ConnectionRecord Worker::save_connection(Index index, const std::vector<Index>& endpoint_numbers,
                                         bool whole) {
  const Connection& connection = slab_[index];
  ConnectionRecord record;
  record.connection = connection;
  record.index = index;
  if (connection.endpoint != kNone) record.endpoint = endpoint_numbers[connection.endpoint];
  for (const unsigned from : {kClient, kBackend}) {
    if (whole) record.parked[from] = relay_.saved_parked(connection, from);
  }
  if (connection.origin != kNone) record.origin = origins_[connection.origin];
  if (connection.exchange != kNone) {
    const Exchange& exchange = exchanges_[connection.exchange];
    record.exchange = ExchangeRecord{exchange, whole ? relay_.saved_partial(exchange) : ""};
  }
  return record;
}

// Nothing is changed in an epoll set that was another image's, but for what ends with this one: it may have
// to be that one's again. Listeners come into it when the thread begins.
void Worker::restore(const WorkerRecord& record, const LoadOf& load_of) {
  accepts_ = false;
  time_ = monotonic_now();
  now_ = static_cast<Tick>((time_ - began_).count() / kMillisecondsPerTick);
  take_mail();
  run_commands();
  arrivals_ = record.arrivals;
  std::vector<Index> endpoints;
  for (const EndpointRecord& endpoint : record.endpoints)
    endpoints.push_back(endpoints_.adopt(endpoint, load_of(endpoint)));
  const bool is_watched = record.epoll >= 0;  // by the set that the constructor was given
  for (const ConnectionRecord& connection : record.connections)
    restore_connection(connection, endpoints, is_watched);
  if (is_watched) slab_.list_free();
  for (const SweepRecord& sweep : record.sweeps) {
    sweeps_.push_back({.service = sweep.service,
                       .what = sweep.what,
                       .generation = sweep.generation,
                       .instance = sweep.instance,
                       .next = 0,
                       .done = nullptr,
                       .kind = sweep.kind});
  }
  for (const SpreadRecord& spread : record.spreads) {
    Spread& again = spreads_.emplace_back();
    again.service = spread.service;
    again.generation = spread.generation;
    again.kind = spread.kind;
    again.end = spread.end;
  }
  // An idle timeout may be another one by now: all are looked at.
  for (const auto& service : services_) {
    if (service == nullptr) continue;
    service->relist = service->relaying.size();
    service->relist_idle = service->idle.size();
  }
  want_tick();
}

void Worker::restore_connection(const ConnectionRecord& record, const std::vector<Index>& endpoints,
                                bool is_watched) {
  const Index index = is_watched ? record.index : slab_.allocate();
  Connection& connection = is_watched ? slab_.place(index) : slab_[index];
  connection = record.connection;
  connection.previous = connection.next = kNone;
  connection.endpoint = connection.origin = connection.exchange = kNone;
  // Whatever the route is now: each of its instances may be tried.
  connection.tried = 0;
  connection.walked = 0;
  ServiceState& service = service_of(connection);
  service.shared->active.fetch_add(1, std::memory_order_relaxed);
  if (connection.state == State::kHeld) service.shared->held.fetch_add(1, std::memory_order_relaxed);
  if (connection.flags & kHoldPromised) service.shared->promised.fetch_add(1, std::memory_order_relaxed);
  plane_.descriptors.fetch_add(kDescriptorsPerClient, std::memory_order_relaxed);
  plane_.loads[number_].connections.fetch_add(1, std::memory_order_relaxed);
  if (record.endpoint != kNone) {
    connection.endpoint = endpoints[record.endpoint];
    endpoints_.take(connection.endpoint);
  }
  for (const unsigned from : {kClient, kBackend})
    relay_.restore_parked(connection, from, record.parked[from]);
  if (record.origin) connection.origin = origins_.add(*record.origin);
  if (record.exchange) {
    connection.exchange = exchanges_.add();
    exchanges_[connection.exchange] = record.exchange->exchange;
    relay_.restore_partial(exchanges_[connection.exchange], record.exchange->partial);
  }
  if (connection.flags & kQueuedAgain) again_.push_back(index);
  list_restored(service, index);
  if (is_watched) return;
  for (const unsigned side : {kClient, kBackend}) {
    const bool watched = connection.side[side] & kWatched;
    connection.side[side] &= static_cast<std::uint16_t>(~(kWatched | kWatchedForRoom));
    if (watched && connection.fd[side] >= 0 && !watch(index, side))
      throw std::runtime_error("cannot watch a connection: " + errno_text(errno));
  }
}

// At the end of its list, whose order is the record's.
void Worker::list_restored(ServiceState& service, Index index) {
  IndexList* const list = list_of(service, slab_[index].state);
  if (list == nullptr) throw std::runtime_error("a connection of the record is in no list");
  list->push_back(slab_, index);
}

// ---- What a direction has parked

ParkedRecord Relay::saved_parked(const Connection& connection, unsigned from) {
  const Index parked = connection.parked[from];
  ParkedRecord record;
  if (parked == kNone) return record;
  if (is_pipe(parked)) {
    const Pipe& pipe = pipes_[parked & ~kPipeBit];
    record.kind = ParkedRecord::Kind::kPipe;
    record.in_pipe = pipe.bytes;
    record.read = pipe.read.get();
    record.write = pipe.write.get();
    return record;
  }
  Chunk& chunk = chunk_of(parked);
  record.kind = ParkedRecord::Kind::kBytes;
  record.bytes.assign(chunk.data(), chunk.end);
  record.begin = chunk.begin;
  return record;
}

void Relay::restore_parked(Connection& connection, unsigned from, const ParkedRecord& record) {
  Index& parked = connection.parked[from];
  parked = kNone;
  switch (record.kind) {
    case ParkedRecord::Kind::kNothing:
      return;
    case ParkedRecord::Kind::kPipe:
      parked = kPipeBit |
               pipes_.adopt({Descriptor(record.read), Descriptor(record.write), std::size_t{record.in_pipe}});
      return;
    case ParkedRecord::Kind::kBytes:
      parked = borrow_chunk(record.bytes.size());
      Chunk& chunk = chunk_of(parked);
      chunk.append(record.bytes);
      chunk.begin = record.begin;
      return;
  }
}

std::string Relay::saved_partial(const Exchange& exchange) {
  if (exchange.partial == kNone) return "";
  Chunk& chunk = chunk_of(exchange.partial);
  return std::string(chunk.bytes());
}

void Relay::restore_partial(Exchange& exchange, std::string_view bytes) {
  exchange.partial = kNone;
  if (bytes.empty()) return;
  exchange.partial = borrow_chunk(kChunkSize);  // it may grow
  chunk_of(exchange.partial).append(bytes);
}

}  // namespace relayd::net
