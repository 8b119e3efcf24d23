#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "proxy/base/proxy_protocol.h"
#include "proxy/config/config.h"
#include "proxy/net/endpoints.h"
#include "proxy/net/slab.h"

namespace relayd::net {

// One worker's totals of one service: written by that worker alone, read by the main thread. On a cache line
// of its own.
struct alignas(64) WorkerCounters {
  std::atomic<std::uint64_t> accepted{0};
  std::atomic<std::uint64_t> held_total{0};
  std::atomic<std::uint64_t> hold_timeouts{0};
  std::atomic<std::uint64_t> connect_failures{0};
  std::atomic<std::uint64_t> cut{0};
  std::atomic<std::uint64_t> bytes_in{0};
  std::atomic<std::uint64_t> bytes_out{0};
  std::atomic<std::uint64_t> proxy_refused{0};
  std::atomic<std::uint64_t> requests{0};
  std::atomic<std::uint64_t> crossings{0};
  std::atomic<std::uint64_t> sent_again{0};
  std::atomic<std::uint64_t> answered{0};
};

// For a counter with a single writer: no locked instruction.
inline void add(std::atomic<std::uint64_t>& counter, std::uint64_t amount) {
  counter.store(counter.load(std::memory_order_relaxed) + amount, std::memory_order_relaxed);
}

// What all workers know of a service together. A slot is reserved before a client is accepted, so that the
// bounds hold whatever the number of threads.
struct ServiceShared {
  explicit ServiceShared(unsigned workers) : counters(std::make_unique<WorkerCounters[]>(workers)) {}
  std::atomic<std::uint32_t> active{0};
  std::atomic<std::uint32_t> held{0};
  std::atomic<std::uint32_t> promised{0};     // places in the hold, of clients that are still greeting
  std::atomic<std::int64_t> next_release{0};  // steady clock, ns: hold.release_rate gives the next place then
  std::atomic<std::int64_t> next_full_report{
      0};                                      // steady clock, ns: that it is full is not told again before
  std::unique_ptr<WorkerCounters[]> counters;  // one per worker
};

class Worker;

// Of the budget (PlaneShared): its own and its backend connection's, from the start.
inline constexpr std::uint64_t kDescriptorsPerClient = 2;

// Clients that a worker has, or is about to be given.
struct alignas(64) WorkerLoad {
  std::atomic<std::uint32_t> connections{0};
};

// What the workers of a data plane share beside the services.
struct PlaneShared {
  std::atomic<std::uint64_t> max_descriptors{0};  // written by the main thread
  std::atomic<std::uint64_t> descriptors{0};      // of clients, and of pipes
  // Constant once the workers run.
  TimePoint began = monotonic_now();  // tick 0 of all workers
  unsigned workers = 0;
  std::atomic<bool> open{true};         // the threads of the workers wait for it before they do anything
  std::unique_ptr<WorkerLoad[]> loads;  // one per worker
  std::vector<Worker*> peers;           // all of them
};

// While no instance can be connected, one held client of each worker tries so often.
inline constexpr Tick kRetryPause = to_ticks(std::chrono::milliseconds(100));

// Whether clients get to the instances of the route.
enum class Reach : std::uint8_t {
  kOpen,
  kBusy,  // all queues were full: also tried when a connection has ended
  kDown,  // every instance failed somebody
};

// The part of the configuration that workers go by. 0: none.
struct ServiceSettings {
  std::string name;  // for the log; a reload may change it
  std::uint32_t max_connections = 0;
  std::uint32_t hold_max = 0;  // 0 here: nobody is accepted to be held
  Tick connect_timeout = 0;
  Tick idle_timeout = 0;
  Tick hold_timeout = 0;
  Tick graceful_timeout = 0;  // 0 here: clients that find no room do not keep a leaving listener
  config::Protocol protocol = config::Protocol::kAuto;
  bool forwarded_headers = false;
  bool accept_proxy = false;
  bool transparent = false;
  std::uint32_t release_rate = 0;  // clients a second
};
ServiceSettings settings_of(const config::Service& service);

// Listeners on their way out of a worker; `done` runs when the last one has been emptied.
struct Leaving {
  std::size_t listeners = 0;
  std::function<void()> done;
};

// One listening socket in one worker's epoll set. The socket is shared by all workers and owned by the
// caller.
struct ListenerSlot {
  int fd = -1;  // -1: free
  ServiceId service = 0;
  bool is_unix = false;
  bool watched = false;
  unsigned burst = 1;                // clients to accept at one wake-up; grows while the queue stays filled
  std::uint32_t last_turn = 0;       // in which it last gave a client
  std::shared_ptr<Leaving> leaving;  // set: empty the kernel's queue, then leave
  std::uint32_t queued = 0;          // leaving: clients still to be taken from the queue
  Tick give_up = 0;                  // leaving: end it then, even if there was no room for all
};

// A worker's view of a service.
struct ServiceState {
  ServiceId id = 0;
  std::shared_ptr<ServiceShared> shared;
  WorkerCounters* counters = nullptr;  // this worker's
  ServiceSettings settings;

  config::Balance balance = config::Balance::kLeastConnections;
  std::vector<Index> route;  // in the endpoint table
  std::uint16_t route_epoch = 0;
  Balancer balancer;

  // Every connection of the service is in exactly one.
  IndexList greeting;    // by due
  IndexList guessing;    // by due
  IndexList reading;     // by due
  IndexList idle;        // HTTP clients between requests, without a backend; by due, as `relaying`
  IndexList held;        // in order of arrival
  IndexList connecting;  // by due
  IndexList relaying;    // by due, where an idle timeout is set
  IndexList ending;      // lingering and resetting; looked through at every tick

  std::size_t relist = 0;  // so many at the front of `relaying` go by a former idle timeout: due or not, look
  std::size_t relist_idle = 0;  // the same of `idle`
  Index last_returned = kNone;  // in `held`: where a client that comes back is likely to belong
  Reach reach = Reach::kOpen;   // not kOpen: one client at a time tries, at retry_at
  Tick retry_at = 0;
  bool release_queued = false;  // on the worker's list of services with clients to release
  bool paused = false;          // its listeners are out of the epoll set: there is no room
  bool stopping = false;        // takes nobody in any more: kept HTTP clients end between two requests
  // stopping: until then whoever came just now and has said nothing is waited for.
  bool awaits_silent = false;
  bool found_silent = false;  // by the sweep that is under way
  Tick silent_due = 0;
  bool closing = false;  // nothing will ever serve again: whoever would have to wait is sent away
  bool removed = false;  // being closed: a client that is still handed over finds nobody

  // To be called when nobody is on the way to an instance any more, or at `give_out_by`.
  std::vector<std::function<void()>> given_out;
  Tick give_out_by = 0;
  // To be called when everybody who lingers has got what was meant for them, or at `ends_by`.
  std::vector<std::function<void()>> ends_awaited;
  Tick ends_by = 0;

  Deadline quiet_until;  // no refusal by an instance is reported before

  struct Drain {
    std::uint32_t generation = 0;
    int instance = -1;  // -1: all of them
    std::function<void()> done;
  };
  std::vector<Drain> drains;
};

}  // namespace relayd::net
