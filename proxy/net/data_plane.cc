#include "proxy/net/data_plane.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <map>
#include <mutex>
#include <semaphore>

#include "proxy/net/worker.h"

namespace relayd::net {

// Workers post here; the main loop runs what they posted, in order.
struct DataPlane::Impl {
  Impl(Loop& loop, const Options& options, Events given)
      : events(std::move(given)), mailbox(loop, [this] { on_mail(); }) {
    plane.max_descriptors = options.max_descriptors;
    plane.workers = std::max(1U, options.threads);
    // Ticks stand still while nobody works: no time limit passes by that.
    if (options.taken_over != nullptr) {
      const PlaneRecord& before = *options.taken_over;
      plane.began = before.began + std::max(monotonic_now() - before.frozen, Duration::zero());
    }
    plane.loads = std::make_unique<WorkerLoad[]>(plane.workers);
    const std::vector<int> epolls = take_epolls(options);
    for (unsigned i = 0; i < plane.workers; ++i)
      workers.push_back(std::make_unique<Worker>(i, plane, epolls[i]));
    for (const auto& worker : workers) plane.peers.push_back(worker.get());
    plane.open = options.taken_over == nullptr;
    if (plane.open) start();
  }

  // Of the workers before, for as many; -1 where there is none to go on with.
  std::vector<int> take_epolls(const Options& options) {
    std::vector<int> epolls(plane.workers, -1);
    if (options.taken_over == nullptr) return epolls;
    const std::vector<WorkerRecord>& before = options.taken_over->workers;
    for (std::size_t i = 0; i < before.size(); ++i) {
      if (before.size() == epolls.size()) {
        epolls[i] = before[i].epoll;
      } else {
        former_epolls.emplace_back(before[i].epoll);
      }
    }
    return epolls;
  }

  void start() {
    for (const auto& worker : workers) worker->start();
  }

  void go() {
    plane.open = true;
    plane.open.notify_all();
    former_epolls.clear();  // which takes its time
  }

  // What the workers do not know of their services.
  PlaneRecord shared_part() const;

  ~Impl() {
    *alive = false;
    go();
    for (const auto& worker : workers) worker->stop();
  }

  // Any thread.
  void post(std::function<void()> report) {
    const std::lock_guard lock(mutex);
    mail.push_back(std::move(report));
    mailbox.send();
  }

  void on_mail() {
    std::vector<std::function<void()>> reports;
    {
      const std::lock_guard lock(mutex);
      reports.swap(mail);
    }
    const std::shared_ptr<const bool> still_alive = alive;
    for (const auto& report : reports) {
      report();
      if (!*still_alive) return;  // the report's callback has destroyed the data plane
    }
  }

  void to_all(const std::function<void(Worker&)>& command) {
    for (const auto& worker : workers) worker->post(command);
  }

  // `command` is given what it has to call when it is done in that worker; `all_done` runs on the main loop
  // when every worker did.
  using Acknowledge = std::function<void()>;
  void to_all_then(const std::function<void(Worker&, Acknowledge)>& command, std::function<void()> all_done) {
    struct Pending {
      std::size_t workers;
      std::function<void()> done;
    };
    const auto pending = std::make_shared<Pending>(workers.size(), std::move(all_done));
    const Acknowledge acknowledge = [this, pending] {
      post([pending] {
        if (--pending->workers == 0 && pending->done) pending->done();
      });
    };
    to_all([command, acknowledge](Worker& worker) { command(worker, acknowledge); });
  }

  TimePoint frozen_at = monotonic_now();
  PlaneShared plane;
  Events events;
  std::map<ServiceId, std::shared_ptr<ServiceShared>> services;
  std::vector<Descriptor> former_epolls;  // that no worker goes on with; until there is no way back
  std::shared_ptr<bool> alive = std::make_shared<bool>(true);

  std::mutex mutex;  // guards mail
  std::vector<std::function<void()>> mail;

  Async mailbox;
  std::vector<std::unique_ptr<Worker>> workers;  // last: they post until they are joined
};

namespace {

// In this order in records; what is new goes to the end.
std::array<std::atomic<std::uint64_t>*, 12> totals_of(WorkerCounters& c) {
  return {&c.accepted,  &c.held_total,    &c.hold_timeouts, &c.connect_failures, &c.cut,        &c.bytes_in,
          &c.bytes_out, &c.proxy_refused, &c.requests,      &c.crossings,        &c.sent_again, &c.answered};
}

// Inherited sockets may block, which accept4 must not do, and lack the option that accepted sockets take
// over.
bool prepare(int fd, bool is_unix, const std::string& name) {
  if (const auto done = set_nonblocking(fd, true); !done) {
    log::error("listener '" + name + "' cannot be made non-blocking: " + done.error().message);
    return false;
  }
  const int on = 1;
  if (!is_unix) ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  return true;
}

std::vector<int> prepare(const std::vector<const Listener*>& listeners) {
  std::vector<int> sockets;
  for (const Listener* listener : listeners) {
    const int fd = listener->socket.get();
    if (prepare(fd, listener->address.is_unix(), listener->name)) sockets.push_back(fd);
  }
  return sockets;
}

}  // namespace

ServiceSettings settings_of(const config::Service& service) {
  ServiceSettings settings{.name = service.name,
                           .max_connections = service.limits.max_connections,
                           .hold_max = service.hold.max_connections,
                           .connect_timeout = to_ticks(service.limits.connect_timeout),
                           .idle_timeout = to_ticks(service.limits.idle_timeout),
                           .hold_timeout = to_ticks(service.hold.timeout),
                           .graceful_timeout = to_ticks(service.rollover.graceful_timeout),
                           .protocol = service.protocol,
                           .forwarded_headers = service.forwarded_headers,
                           .accept_proxy = service.proxy_protocol.accept,
                           .transparent = service.transparent,
                           .release_rate = service.hold.release_rate};
  return settings;
}

DataPlane::DataPlane(Loop& main, const Options& options, Events events)
    : impl_(std::make_unique<Impl>(main, options, std::move(events))) {}

DataPlane::~DataPlane() = default;

void DataPlane::set_max_descriptors(std::uint64_t most) {
  impl_->plane.max_descriptors.store(most, std::memory_order_relaxed);
}

void DataPlane::add_service(ServiceId id, const config::Service& service,
                            const std::vector<const Listener*>& listeners) {
  const auto shared = std::make_shared<ServiceShared>(impl_->plane.workers);
  impl_->services[id] = shared;
  const ServiceSettings settings = settings_of(service);
  impl_->to_all([=](Worker& worker) { worker.add_service(id, shared, settings); });
  impl_->to_all([=, sockets = prepare(listeners)](Worker& worker) {
    worker.update_service(id, settings, sockets, [] {});
  });
}

void DataPlane::update_service(ServiceId id, const config::Service& service,
                               const std::vector<const Listener*>& listeners, std::function<void()> done) {
  impl_->to_all_then(
      [id, settings = settings_of(service), sockets = prepare(listeners)](Worker& worker,
                                                                          Impl::Acknowledge ack) {
        worker.update_service(id, settings, sockets, std::move(ack));
      },
      std::move(done));
}

void DataPlane::empty_queues(ServiceId id, const std::vector<int>& sockets, std::function<void()> done) {
  for (const int fd : sockets) prepare(fd, false, "of an instance");
  impl_->to_all_then(
      [=](Worker& worker, Impl::Acknowledge ack) { worker.empty_queues(id, sockets, std::move(ack)); },
      std::move(done));
}

void DataPlane::stop_accepting(ServiceId id, std::function<void()> done) {
  impl_->to_all_then(
      [id](Worker& worker, Impl::Acknowledge ack) { worker.stop_accepting(id, std::move(ack)); },
      std::move(done));
}

void DataPlane::finish_ends(ServiceId id, std::function<void()> done) {
  impl_->to_all_then([id](Worker& worker, Impl::Acknowledge ack) { worker.finish_ends(id, std::move(ack)); },
                     std::move(done));
}

void DataPlane::remove_service(ServiceId id, std::function<void()> done) {
  impl_->to_all_then(
      [id](Worker& worker, Impl::Acknowledge ack) { worker.remove_service(id, std::move(ack)); },
      [this, id, done = std::move(done)] {
        impl_->services.erase(id);
        if (done) done();
      });
}

void DataPlane::set_route(ServiceId id, std::shared_ptr<const Route> route) {
  impl_->to_all([id, route = std::move(route)](Worker& worker) { worker.set_route(id, route); });
}

void DataPlane::drain(ServiceId id, std::uint32_t generation, int instance, std::uint64_t token) {
  impl_->to_all_then(
      [=](Worker& worker, Impl::Acknowledge ack) { worker.drain(id, generation, instance, std::move(ack)); },
      [impl = impl_.get(), id, token] {
        if (impl->events.drained) impl->events.drained(id, token);
      });
}

void DataPlane::cut(ServiceId id, std::uint32_t generation, int instance, ConnectionKind kind) {
  impl_->to_all([=](Worker& worker) { worker.cut(id, generation, instance, kind); });
}

void DataPlane::spread_closes(ServiceId id, std::uint32_t generation, ConnectionKind kind, Duration over) {
  impl_->to_all([=](Worker& worker) { worker.spread_closes(id, generation, kind, to_ticks(over)); });
}

void DataPlane::process_ended(ServiceId id, std::uint32_t generation, int instance) {
  impl_->to_all([=](Worker& worker) { worker.process_ended(id, generation, instance); });
}

void DataPlane::close_held(ServiceId id) {
  impl_->to_all([id](Worker& worker) { worker.close_held(id); });
}

// ---- For an upgrade

PlaneRecord DataPlane::Impl::shared_part() const {
  PlaneRecord record;
  record.began = plane.began;
  record.frozen = frozen_at;
  for (const auto& [id, shared] : services) {
    ServiceRecord& service = record.services.emplace_back();
    service.id = id;
    service.next_release = shared->next_release.load(std::memory_order_relaxed);
    for (unsigned i = 0; i < plane.workers; ++i) {
      const auto totals = totals_of(shared->counters[i]);
      service.totals.resize(totals.size());
      for (std::size_t k = 0; k < totals.size(); ++k)
        service.totals[k] += totals[k]->load(std::memory_order_relaxed);
    }
  }
  record.workers.resize(workers.size());
  return record;
}

void DataPlane::save(std::function<void(PlaneRecord)> done) {
  // Filled on the main loop alone.
  const auto record = std::make_shared<PlaneRecord>(impl_->shared_part());
  const auto next = std::make_shared<std::size_t>(0);
  impl_->to_all_then(
      [impl = impl_.get(), record, next](Worker& worker, const Impl::Acknowledge& ack) {
        impl->post([record, next, part = worker.save(/*whole=*/false)]() mutable {
          record->workers[(*next)++] = std::move(part);
        });
        ack();
      },
      [record, done = std::move(done)] { done(std::move(*record)); });
}

// In two steps: a client that one worker hands to another is there before the second.
Result<void> DataPlane::freeze(Duration patience) {
  const std::vector<std::unique_ptr<Worker>>& workers = impl_->workers;
  const TimePoint end = monotonic_now() + patience;
  const auto stopped = std::make_shared<std::counting_semaphore<>>(0);
  impl_->to_all([stopped](Worker& worker) {
    worker.set_accepting(false);
    stopped->release();
  });
  bool all = true;
  for (std::size_t i = 0; all && i < workers.size(); ++i)
    all = stopped->try_acquire_for(std::max(end - monotonic_now(), Duration::zero()));
  if (!all) {
    impl_->to_all([](Worker& worker) { worker.set_accepting(true); });
    return fail("a thread of the data plane did not stop accepting in time");
  }
  for (const auto& worker : workers) worker->halt();
  for (const auto& worker : workers) all = all && worker->has_halted(end);
  if (!all) {
    thaw();
    return fail("a thread of the data plane did not stop in time");
  }
  impl_->frozen_at = monotonic_now();
  return {};
}

PlaneRecord DataPlane::frozen() const {
  PlaneRecord record = impl_->shared_part();
  for (std::size_t i = 0; i < impl_->workers.size(); ++i)
    record.workers[i] = impl_->workers[i]->save(/*whole=*/true);
  const std::vector<ServiceId> closing = impl_->workers.front()->closing_services();
  for (ServiceRecord& service : record.services)
    service.closing = std::ranges::find(closing, service.id) != closing.end();
  return record;
}

void DataPlane::thaw() {
  for (const auto& worker : impl_->workers) worker->go_on();
}
void DataPlane::start() { impl_->start(); }
void DataPlane::go() { impl_->go(); }

void DataPlane::restore(const PlaneRecord& record, const LoadOf& load_of) {
  for (const ServiceRecord& service : record.services) {
    const auto found = impl_->services.find(service.id);
    if (found == impl_->services.end()) continue;
    found->second->next_release.store(service.next_release, std::memory_order_relaxed);
    const auto totals = totals_of(found->second->counters[0]);
    for (std::size_t k = 0; k < std::min(totals.size(), service.totals.size()); ++k)
      totals[k]->store(service.totals[k], std::memory_order_relaxed);
  }
  const bool as_before = record.workers.size() == impl_->workers.size();
  std::vector<WorkerRecord> dealt;
  if (!as_before) dealt = deal_out(record.workers, impl_->workers.size());
  const std::vector<WorkerRecord>& parts = as_before ? record.workers : dealt;
  for (std::size_t i = 0; i < impl_->workers.size(); ++i) impl_->workers[i]->restore(parts[i], load_of);
  for (const ServiceRecord& service : record.services) {
    if (service.closing) close_held(service.id);
  }
}

ServiceCounts DataPlane::counts(ServiceId id) const {
  ServiceCounts sum;
  const auto found = impl_->services.find(id);
  if (found == impl_->services.end()) return sum;
  const ServiceShared& shared = *found->second;
  sum.active = shared.active.load(std::memory_order_relaxed);
  sum.held = shared.held.load(std::memory_order_relaxed);
  for (unsigned i = 0; i < impl_->plane.workers; ++i) {
    const WorkerCounters& worker = shared.counters[i];
    sum.accepted += worker.accepted.load(std::memory_order_relaxed);
    sum.held_total += worker.held_total.load(std::memory_order_relaxed);
    sum.hold_timeouts += worker.hold_timeouts.load(std::memory_order_relaxed);
    sum.connect_failures += worker.connect_failures.load(std::memory_order_relaxed);
    sum.cut += worker.cut.load(std::memory_order_relaxed);
    sum.bytes_in += worker.bytes_in.load(std::memory_order_relaxed);
    sum.bytes_out += worker.bytes_out.load(std::memory_order_relaxed);
    sum.requests += worker.requests.load(std::memory_order_relaxed);
    sum.crossings += worker.crossings.load(std::memory_order_relaxed);
    sum.sent_again += worker.sent_again.load(std::memory_order_relaxed);
    sum.answered += worker.answered.load(std::memory_order_relaxed);
    sum.proxy_refused += worker.proxy_refused.load(std::memory_order_relaxed);
  }
  return sum;
}

void DataPlane::list_connections(ServiceId id, std::optional<std::uint32_t> generation, std::size_t limit,
                                 std::function<void(ConnectionList)> callback) {
  // Filled on the main loop alone.
  const auto all = std::make_shared<ConnectionList>();
  impl_->to_all_then(
      [impl = impl_.get(), id, generation, limit, all](Worker& worker, Impl::Acknowledge ack) {
        worker.list(id, generation, limit, [impl, all, ack = std::move(ack)](ConnectionList part) {
          impl->post([all, part = std::move(part)] {
            all->connections.insert(all->connections.end(), part.connections.begin(), part.connections.end());
            all->truncated = all->truncated || part.truncated;
          });
          ack();
        });
      },
      [all, limit, callback = std::move(callback)] {
        if (all->connections.size() > limit) {
          all->connections.resize(limit);
          all->truncated = true;
        }
        callback(std::move(*all));
      });
}

}  // namespace relayd::net
