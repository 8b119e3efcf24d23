#include <algorithm>
#include <utility>

#include "proxy/net/worker.h"

// What the main thread asks of a worker.
namespace relayd::net {
namespace {

// Records described in one turn: each costs a getpeername, and others want to be served meanwhile.
constexpr Index kListSlice = 1000;

const char* state_name(const Connection& connection) {
  switch (connection.state) {
    case State::kGreeting:
      return "greeting";
    case State::kIdle:
      return "idle";
    case State::kGuessing:
    case State::kReading:
      return "reading";
    case State::kHeld:
      return "held";
    case State::kConnecting:
      return "connecting";
    case State::kLingering:
    case State::kResetting:
      return "lingering";
    default:
      break;
  }
  const bool whole = connection.flow[kClient] == Flow::kOpen && connection.flow[kBackend] == Flow::kOpen;
  return whole ? "relaying" : "half-closed";
}

Duration to_duration(Tick ticks) { return Duration(ticks * kMillisecondsPerTick); }

}  // namespace

void Worker::add_service(ServiceId id, std::shared_ptr<ServiceShared> shared,
                         const ServiceSettings& settings) {
  if (services_.size() <= id) services_.resize(id + 1U);
  services_[id] = std::make_unique<ServiceState>();
  ServiceState& service = *services_[id];
  service.id = id;
  service.counters = &shared->counters[number_];
  service.shared = std::move(shared);
  service.settings = settings;
}

void Worker::update_service(ServiceId id, const ServiceSettings& settings, const std::vector<int>& listeners,
                            std::function<void()> done) {
  ServiceState* service = find(id);
  if (service == nullptr) {
    done();
    return;
  }
  if (settings.idle_timeout != service->settings.idle_timeout) {
    service->relist = service->relaying.size();
    service->relist_idle = service->idle.size();
  }
  service->settings = settings;
  room_made_ = true;
  if (!service->route.empty()) queue_release(*service);  // those whom only the old pace kept back
  if (settings.idle_timeout != 0) want_tick();
  for (const int fd : listeners) add_listener(*service, fd);
  drop_listeners(*service, listeners, std::move(done));
}

void Worker::empty_queues(ServiceId id, const std::vector<int>& sockets, std::function<void()> done) {
  ServiceState* service = find(id);
  if (service == nullptr || service->removed) {
    done();
    return;
  }
  std::vector<int> keep;
  for (const ListenerSlot& slot : listeners_) {
    if (slot.fd >= 0 && slot.service == id) keep.push_back(slot.fd);
  }
  for (const int fd : sockets) add_listener(*service, fd);
  drop_listeners(*service, keep, std::move(done));
}

void Worker::stop_accepting(ServiceId id, std::function<void()> done) {
  ServiceState* service = find(id);
  if (service == nullptr) {
    done();
    return;
  }
  drop_listeners(*service, {}, [this, id, done = std::move(done)] {
    ServiceState& stopping = *services_[id];
    stopping.stopping = true;
    if (stopping.settings.protocol != config::Protocol::kTcp || exchanges_.in_use() > 0) close_idle(stopping);
    stopping.given_out.push_back(done);
    stopping.give_out_by = now_ + stopping.settings.graceful_timeout;
    want_tick();
    check_given_out(stopping);
  });
}

void Worker::check_given_out(ServiceState& service) {
  const bool waits = !service.held.empty() || !service.connecting.empty() || !service.guessing.empty() ||
                     !service.reading.empty() || service.awaits_silent;
  const bool on_the_way = !service.greeting.empty() || (waits && !service.route.empty());
  if (!on_the_way || reached(now_, service.give_out_by)) end_giving_out(service);
}

void Worker::end_giving_out(ServiceState& service) {
  for (const auto& done : std::exchange(service.given_out, {})) done();
}

void Worker::remove_service(ServiceId id, std::function<void()> done) {
  ServiceState* service = find(id);
  if (service == nullptr) {
    done();
    return;
  }
  service->removed = true;
  for (ListenerSlot& slot : listeners_) {
    if (slot.fd >= 0 && slot.service == id) end_leaving(slot);
  }
  end_giving_out(*service);
  const auto finish = [this, id, done = std::move(done)] {
    ServiceState& removed = *services_[id];
    for (const Index endpoint : removed.route) endpoints_.unname(endpoint);
    removed.route.clear();
    check_drains(removed);
    stop_awaiting_ends(removed);
    services_[id] = nullptr;
    done();
  };
  sweeps_.push_back(
      {.service = id, .what = SweepWhat::kAll, .generation = 0, .instance = -1, .next = 0, .done = finish});
}

void Worker::set_route(ServiceId id, const std::shared_ptr<const Route>& route) {
  ServiceState* service = find(id);
  if (service == nullptr) return;
  std::vector<Index> named;
  for (const Endpoint& endpoint : route->endpoints) named.push_back(endpoints_.name(id, endpoint));
  const std::vector<Index> before = std::exchange(service->route, std::move(named));
  bool gone = false;
  for (const Index endpoint : before) gone = endpoints_.unname(endpoint) || gone;
  // Closes that were to be spread are taken back with the drain.
  std::erase_if(spreads_, [&](const Spread& spread) {
    return spread.service == id && std::ranges::any_of(route->endpoints, [&spread](const Endpoint& endpoint) {
             return endpoint.generation == spread.generation;
           });
  });
  service->balance = route->balance;
  ++service->route_epoch;
  service->reach = Reach::kOpen;
  if (gone) check_drains(*service);
  if (!service->route.empty()) queue_release(*service);
  room_made_ = true;  // who paused because the hold was full need not hold any more
}

void Worker::drain(ServiceId id, std::uint32_t generation, int instance, std::function<void()> done) {
  ServiceState* service = find(id);
  if (service == nullptr) {
    done();
    return;
  }
  service->drains.push_back({generation, instance, std::move(done)});
  check_drains(*service);
  const bool may_move = service->settings.protocol != config::Protocol::kTcp || exchanges_.in_use() > 0;
  if (!may_move || service->drains.empty()) return;
  sweeps_.push_back({.service = id,
                     .what = SweepWhat::kMove,
                     .generation = generation,
                     .instance = instance,
                     .next = 0,
                     .done = nullptr});
}

void Worker::cut(ServiceId id, std::uint32_t generation, int instance, ConnectionKind kind) {
  if (find(id) == nullptr) return;
  sweeps_.push_back({.service = id,
                     .what = SweepWhat::kGeneration,
                     .generation = generation,
                     .instance = instance,
                     .next = 0,
                     .done = nullptr,
                     .kind = kind});
}

void Worker::process_ended(ServiceId id, std::uint32_t generation, int instance) {
  if (find(id) == nullptr) return;
  sweeps_.push_back({.service = id,
                     .what = SweepWhat::kEnded,
                     .generation = generation,
                     .instance = instance,
                     .next = 0,
                     .done = nullptr});
}

void Worker::close_held(ServiceId id) {
  ServiceState* service = find(id);
  if (service == nullptr) return;
  for (ListenerSlot& slot : listeners_) {
    if (slot.fd >= 0 && slot.service == id && slot.leaving) end_leaving(slot);
  }
  end_giving_out(*service);
  service->closing = true;
  sweeps_.push_back(
      {.service = id, .what = SweepWhat::kHeld, .generation = 0, .instance = -1, .next = 0, .done = nullptr});
}

void Worker::list(ServiceId id, std::optional<std::uint32_t> generation, std::size_t limit,
                  std::function<void(ConnectionList)> done) {
  listings_.push_back({.service = id,
                       .generation = generation,
                       .limit = limit,
                       .next = 0,
                       .found = {},
                       .done = std::move(done)});
}

void Worker::list_some() {
  if (listings_.empty()) return;
  Listing& listing = listings_.front();
  const Index end = std::min(slab_.size(), listing.next + kListSlice);
  for (; listing.next < end && !listing.found.truncated; ++listing.next) list_one(listing, listing.next);
  if (listing.next < slab_.size() && !listing.found.truncated) return;
  Listing finished = std::move(listing);
  listings_.erase(listings_.begin());
  finished.done(std::move(finished.found));
}

void Worker::list_one(Listing& listing, Index index) {
  const Connection& connection = slab_[index];
  if (connection.state == State::kFree || connection.state == State::kClosed ||
      connection.service != listing.service) {
    return;
  }
  ConnectionInfo info;
  if (connection.endpoint != kNone) {
    info.generation = endpoints_[connection.endpoint].endpoint.generation;
    info.instance = endpoints_[connection.endpoint].endpoint.instance;
  }
  if (listing.generation && info.generation != *listing.generation) return;
  if (listing.found.connections.size() >= listing.limit) {
    listing.found.truncated = true;
    return;
  }
  info.id = connection.id;
  if (connection.origin != kNone) {
    info.client = origins_[connection.origin].source.to_string();
  } else if (connection.side[kClient] & kIsUnix) {
    info.client = "unix:";
  } else if (const auto peer = peer_address(connection.fd[kClient])) {
    info.client = peer->to_string();
  }
  info.state = state_name(connection);
  info.age = to_duration(now_ - connection.opened);
  info.idle = to_duration(now_ - connection.active);
  info.bytes_in = connection.bytes_in;
  info.bytes_out = connection.bytes_out;
  listing.found.connections.push_back(std::move(info));
}

}  // namespace relayd::net
