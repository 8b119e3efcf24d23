#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "proxy/base/address.h"
#include "proxy/base/loop.h"
#include "proxy/config/config.h"
#include "proxy/net/record.h"
#include "proxy/net/route.h"

// The data plane as the main thread sees it: worker threads that accept, connect and relay. All functions
// belong to the main thread; callbacks run on the main loop. Nothing but routes, commands and counts crosses
// to the workers.
namespace relayd::net {

// Where clients of a service come in. Made once, kept for the life of the service, over rollovers and
// reloads.
struct Listener {
  std::string name;  // as configured: ":8080"
  SocketAddress address;
  Descriptor socket;  // shared by all workers; never shut down while serving
};

struct ConnectionInfo {
  std::uint64_t id = 0;
  std::string client;            // address, as its PROXY header told it if there is one; "unix:"
  std::uint32_t generation = 0;  // 0 while held
  std::uint16_t instance = 0;
  std::string
      state;  // "greeting", "idle", "reading", "held", "connecting", "relaying", "half-closed", "lingering"
  Duration age{};
  Duration idle{};
  std::uint64_t bytes_in = 0;   // from the client
  std::uint64_t bytes_out = 0;  // to the client
};

struct ConnectionList {
  std::vector<ConnectionInfo> connections;
  bool truncated = false;  // there are more than the limit
};

// A reading of a service's counters. Totals only grow; gauges are of this moment, across threads only nearly
// so.
struct ServiceCounts {
  std::uint64_t accepted = 0;
  std::uint64_t active = 0;  // clients connected, held ones included
  std::uint64_t held = 0;
  std::uint64_t held_total = 0;     // clients that have waited
  std::uint64_t hold_timeouts = 0;  // clients closed because hold.timeout passed
  std::uint64_t connect_failures =
      0;                  // attempts at an instance that failed (the client went to another, or waited)
  std::uint64_t cut = 0;  // connections closed at the end of graceful_timeout, or by restart or fast stop
  std::uint64_t bytes_in = 0;
  std::uint64_t bytes_out = 0;
  std::uint64_t proxy_refused = 0;  // clients closed for want of a valid PROXY header
  // HTTP:
  std::uint64_t requests = 0;    // answered by an instance
  std::uint64_t crossings = 0;   // clients whose request went to another generation than the one before
  std::uint64_t sent_again = 0;  // requests sent to a second instance, as the first gave no answer
  std::uint64_t answered = 0;    // by relayd itself: 4xx, 5xx
};

struct Events {
  // No worker holds a connection or a connect to what drain() named any more, and none can get one. Exactly
  // once per drain() call, with its token, also where two calls name the same generation.
  std::function<void(ServiceId, std::uint64_t token)> drained;
};

struct Options {
  unsigned threads = 1;
  // Descriptors that clients and their backend connections may use in all; accepting pauses beyond it.
  // A client is counted as two from the start, so that it can always be connected.
  std::uint64_t max_descriptors = 1000;
  // Whose work is taken over, by restore(), start() and go(). Null: the workers start at once.
  const PlaneRecord* taken_over = nullptr;
};

class DataPlane {
 public:
  DataPlane(Loop& main, const Options& options, Events events);  // starts the workers; throws on failure
  ~DataPlane();  // closes what is left at once and joins the workers
  DataPlane(const DataPlane&) = delete;
  DataPlane& operator=(const DataPlane&) = delete;

  // ---- For an upgrade of relayd: everything goes on in the next image ----

  // A copy of the state of this moment, while the workers go on. For a rehearsal: each worker's part is of
  // another moment, and without the bytes that wait to be sent.
  void save(std::function<void(PlaneRecord)> done);
  // The workers stand still, with everything left as it is; what the main thread has asked for before has
  // been carried out, and what they report to it waits until thaw(). The error: one did not stop within
  // `patience`; then nothing has changed.
  Result<void> freeze(Duration patience);
  // While frozen. Changes nothing.
  PlaneRecord frozen() const;
  void thaw();
  // Takes over what the record names, whose services have been added, with its descriptors. Where there are
  // more or fewer threads than before, the connections are dealt out anew. Throws std::runtime_error.
  void restore(const PlaneRecord& record, const LoadOf& load_of);
  // Starts the threads, which wait for go() before they touch anything. Throws std::system_error.
  void start();
  void go();

  // Options::max_descriptors from now on. Nobody is closed by a lower one; those who wait for room look at a
  // higher one within a tick (50 ms).
  void set_max_descriptors(std::uint64_t most);

  // Starts accepting at once: with no route yet, clients are held. The listeners stay the caller's until
  // remove_service()'s callback.
  void add_service(ServiceId id, const config::Service& service,
                   const std::vector<const Listener*>& listeners);
  // New limits, hold and listeners of a running service. A listener no longer in the list is emptied first:
  // what is already in its queue is accepted, for at most rollover.graceful_timeout where there is no room
  // (max_connections, hold); `done` runs when no worker uses the old listeners any more. Until then, they
  // must not be given to the service again.
  void update_service(ServiceId id, const config::Service& service,
                      const std::vector<const Listener*>& listeners, std::function<void()> done);
  // Stops accepting (after emptying the kernel's queue, as update_service() does), keeps relaying. `done`: no
  // worker uses the listeners.
  void stop_accepting(ServiceId id, std::function<void()> done);
  // Accepts for the service whoever waits in the queues of these listening sockets, which were somebody
  // else's, and are made not to block; further clients are not waited for. Like update_service() it takes at
  // most graceful_timeout. They stay the caller's, open until `done`.
  void empty_queues(ServiceId id, const std::vector<int>& sockets, std::function<void()> done);
  // `done` once every client whose last response was still on its way has it: what is closed before may be
  // reset, and lose it. Takes no longer than graceful_timeout since stop_accepting(), or else a second.
  void finish_ends(ServiceId id, std::function<void()> done);
  // Closes what is left of the service; `done`: no worker knows it.
  void remove_service(ServiceId id, std::function<void()> done);

  // New connections go by this route from now on; held clients are released to it in arrival order, per
  // worker. A route without endpoints holds. The release is complete (every held client has been given an
  // endpoint, or stays held because none took it) before the worker looks at the next command of the main
  // thread.
  void set_route(ServiceId id, std::shared_ptr<const Route> route);
  // Call after the set_route() that no longer names the generation (or its one instance; -1: all of them):
  // reports Events::drained with the token when nothing is left.
  void drain(ServiceId id, std::uint32_t generation, int instance, std::uint64_t token);
  // Closes every connection of the generation (or of its one instance) now; a pending drain() then reports. A
  // client whose connect is still under way has lost nothing yet: it is held and goes by the current route.
  void cut(ServiceId id, std::uint32_t generation, int instance, ConnectionKind kind = ConnectionKind::kAll);
  // Closes the generation's connections of the kind one by one, evenly over this time, but for clients whose
  // HTTP request is being answered; a set_route() that names it again ends that. cut() is for what is left.
  void spread_closes(ServiceId id, std::uint32_t generation, ConnectionKind kind, Duration over);
  // The process of an instance that is on its way out has ended: its connections end when its last bytes have
  // been passed on, also where the client keeps its half open.
  void process_ended(ServiceId id, std::uint32_t generation, int instance);
  // Gives up on held clients: they are closed. Listeners on their way out are let go, with whoever still
  // waits in their queues.
  void close_held(ServiceId id);

  ServiceCounts counts(ServiceId id) const;
  // Collects from all workers, which go on relaying meanwhile, then calls back once. At most `limit` of the
  // connections of this generation (0: those that have none, such as the held; nullopt: of all).
  void list_connections(ServiceId id, std::optional<std::uint32_t> generation, std::size_t limit,
                        std::function<void(ConnectionList)> callback);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace relayd::net
