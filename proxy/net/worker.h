#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <thread>
#include <vector>

#include "proxy/base/descriptor.h"
#include "proxy/http/first_bytes.h"
#include "proxy/net/data_plane.h"
#include "proxy/net/origins.h"
#include "proxy/net/record.h"
#include "proxy/net/relay.h"
#include "proxy/net/service_state.h"

struct epoll_event;

namespace relayd::net {

// One thread of the data plane: its own epoll set and tables. It accepts, connects, relays, holds and closes.
// Everything but the constructor, start(), post() and stop() belongs to the worker's thread.
//
// Where to find what: worker.cc the thread and its turns; acceptor.cc accepting; greeting.cc PROXY headers of
// clients; http_clients.cc clients that speak HTTP, http_idle.cc those between two requests; connect.cc
// choosing an instance and connecting; hold.cc waiting clients and their release; ending.cc linger, reset,
// close and timeouts; sweep.cc walks over all connections; spread.cc closes that are spread over time;
// commands.cc what the main thread asks for; worker_record.cc all of it as plain data, for an upgrade;
// relay.cc (class Relay) moving bytes.
class Worker {
 public:
  // `epoll`: the set that the worker before it in an upgrade has left, which it owns then; -1: a new one.
  // Throws std::runtime_error.
  Worker(unsigned number, PlaneShared& plane, int epoll = -1);
  ~Worker();
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;

  void start();  // throws std::system_error
  // Any thread; commands run in order.
  void post(std::function<void(Worker&)> command);
  // Closes what is left at once and joins the thread.
  void stop();

  // For an upgrade (worker_record.cc). A command: without accepting, no listener is in the epoll set, and no
  // client is handed to another worker either.
  void set_accepting(bool on);
  // Main thread: once the commands posted so far have been carried out, the thread stands still at the end of
  // its turn, with everything left as it is, until go_on(). False where it does not come to that by `end`;
  // go_on() is then due too.
  void halt();
  bool has_halted(TimePoint end);
  void go_on();
  // In the worker's thread, or while it stands still. Changes nothing. `whole`: with the bytes that wait to
  // be sent, of which a rehearsal needs none.
  WorkerRecord save(bool whole);
  std::vector<ServiceId> closing_services() const;
  // Before the first start(): runs the commands posted so far, and takes over what the record names, with its
  // descriptors. Throws std::runtime_error.
  void restore(const WorkerRecord& record, const LoadOf& load_of);

  // Commands. Each `done` runs in the worker's thread, at most once.
  // Its listeners come by update_service(), once every worker has been sent this: whoever accepts may hand a
  // client over to any of them.
  void add_service(ServiceId id, std::shared_ptr<ServiceShared> shared, const ServiceSettings& settings);
  void update_service(ServiceId id, const ServiceSettings& settings, const std::vector<int>& listeners,
                      std::function<void()> done);
  void empty_queues(ServiceId id, const std::vector<int>& sockets, std::function<void()> done);
  // `done` also waits for clients that came in and are still on the way to an instance, while there is a
  // route; for at most graceful_timeout.
  void stop_accepting(ServiceId id, std::function<void()> done);
  // `done` once everybody whose response is still on its way has it, or graceful_timeout is over since
  // stop_accepting(), or a second.
  void finish_ends(ServiceId id, std::function<void()> done);
  void remove_service(ServiceId id, std::function<void()> done);
  void set_route(ServiceId id, const std::shared_ptr<const Route>& route);
  // `instance` -1: all of them.
  void drain(ServiceId id, std::uint32_t generation, int instance, std::function<void()> done);
  void cut(ServiceId id, std::uint32_t generation, int instance, ConnectionKind kind);
  void spread_closes(ServiceId id, std::uint32_t generation, ConnectionKind kind, Tick over);
  void process_ended(ServiceId id, std::uint32_t generation, int instance);
  void close_held(ServiceId id);
  // At most `limit` connections of the generation, if one is given; `done` is given what was found.
  void list(ServiceId id, std::optional<std::uint32_t> generation, std::size_t limit,
            std::function<void(ConnectionList)> done);

 private:
  static constexpr Duration kTickInterval{50};
  static constexpr int kTicksApart =
      static_cast<int>(to_ticks(kTickInterval));  // Ticks between two on_tick()
  // The high bits of what an event carries (worker.cc).
  static constexpr std::uint64_t kListenerKey = std::uint64_t{0b10} << 62;
  static constexpr std::uint64_t kProbeKey = std::uint64_t{0b11} << 62;
  static constexpr std::uint64_t kWakeKey = ~std::uint64_t{0};

  // A walk over the slab that closes what it finds, a slice a turn.
  struct Sweep {
    ServiceId service = 0;
    SweepWhat what = SweepWhat::kAll;
    std::uint32_t generation = 0;
    int instance = -1;
    Index next = 0;
    std::function<void()> done;                  // may be empty
    ConnectionKind kind = ConnectionKind::kAll;  // of kGeneration
  };

  // A connect of the worker's own to an instance that has failed a client.
  struct Probe {
    Descriptor socket;  // invalid: the slot is free
    Index endpoint = kNone;
    std::shared_ptr<EndpointLoad> load;  // tells whether the entry is still that instance's
    Tick due = 0;
  };

  // Connections of a generation to be closed one by one until `end`: first they are found, some slots a tick,
  // then each has its moment.
  struct Spread {
    struct Target {
      Index index;
      std::uint64_t id;
    };
    ServiceId service = 0;
    std::uint32_t generation = 0;
    ConnectionKind kind = ConnectionKind::kAll;
    Tick end = 0;
    Tick began = 0;             // when all had been found
    Index looked_at = 0;        // slots of the slab
    std::vector<Target> found;  // in the order of their closes
    std::size_t passed = 0;     // of them: closed, or gone by themselves
  };

  // A walk over the slab that describes what it finds, a slice a turn.
  struct Listing {
    ServiceId service = 0;
    std::optional<std::uint32_t> generation;
    std::size_t limit = 0;
    Index next = 0;
    ConnectionList found;
    std::function<void(ConnectionList)> done;
  };

  // worker.cc
  void run();
  void turn();
  int patience() const;
  void wake();
  void take_mail();
  void run_commands();
  void on_tick();
  void dispatch(const epoll_event& event);
  void on_connection_event(Index index, unsigned side, std::uint32_t events);
  void relay(Index index);
  void run_again(Index index);
  void note_traffic(ServiceState& service, Connection& connection, std::uint64_t bytes_in,
                    std::uint64_t bytes_out);
  void run_queued();
  void want_tick();
  ServiceState* find(ServiceId id) { return id < services_.size() ? services_[id].get() : nullptr; }
  ServiceState& service_of(const Connection& connection) { return *services_[connection.service]; }
  bool watch(Index index, unsigned side);
  void watch_for_room(Connection& connection, Index index);
  bool set_watch(Connection& connection, Index index, unsigned side, int operation, bool for_room);
  // At most once a second: what is short, for which service, and the cure.
  void report_shortage(const ServiceState& service, const char* what, int error);

  // worker_record.cc
  void stand_still();
  ConnectionRecord save_connection(Index index, const std::vector<Index>& endpoint_numbers, bool whole);
  // `is_watched`: in the epoll set already, under its index.
  void restore_connection(const ConnectionRecord& record, const std::vector<Index>& endpoints,
                          bool is_watched);
  void list_restored(ServiceState& service, Index index);

  // commands.cc
  void check_given_out(ServiceState& service);
  static void end_giving_out(ServiceState& service);
  void list_some();
  void list_one(Listing& listing, Index index);

  // acceptor.cc
  void add_listener(ServiceState& service, int fd);
  void drop_listeners(ServiceState& service, const std::vector<int>& keep, std::function<void()> done);
  void accept_from(Index slot);
  enum class Accepted { kOne, kNobody, kNoRoom };
  Accepted accept_one(ServiceState& service, const ListenerSlot& slot);
  bool reserve(ServiceState& service, bool held);
  bool make_room(ServiceState& service);
  void report_full(ServiceState& service, const char* what);
  bool reserve_descriptors();
  void unreserve(ServiceState& service, bool held);
  void admit(ServiceState& service, int fd, bool is_unix, bool held);
  void take_in(ServiceState& service, int fd, bool is_unix, bool held);
  Worker& less_loaded();
  void hand_over(ServiceState& service, int fd, bool is_unix, bool held, Worker& to);
  void pause(ServiceState& service);
  void resume_paused();
  bool watch_missing();
  bool tick_leaving();
  void end_leaving(ListenerSlot& slot);
  void watch_listener(Index slot, bool on);

  // greeting.cc
  void greet(ServiceState& service, Index index);
  void on_greeting_event(Index index, std::uint32_t events);
  void read_greeting(ServiceState& service, Index index);
  void refuse_greeting(ServiceState& service, Index index, const std::string& why);
  void expire_greetings(ServiceState& service);

  // http_clients.cc
  void start(ServiceState& service, Index index);
  void begin_exchange(Connection& connection, http::Guess guess);
  void end_exchange(Connection& connection);
  bool decide(Connection& connection);
  void relay_http(Index index);
  static bool backend_leaves(Connection& connection);
  std::string client_host(const Connection& connection) const;
  void count_request(ServiceState& service, const Connection& connection, Exchange& exchange);
  void note_exchanged(ServiceState& service, Connection& connection, Exchange& exchange);
  void settle_http(ServiceState& service, Index index);
  void find_backend(ServiceState& service, Index index);
  void place_again(ServiceState& service, Index index);
  static void begin_placing(Connection& connection);
  bool send_again(ServiceState& service, Index index);
  void become_opaque(ServiceState& service, Index index);
  void finish_http(ServiceState& service, Index index);
  void answer_http(ServiceState& service, Index index, unsigned status, std::string_view reason);
  bool speaks_http(const ServiceState& service, Connection& connection);
  void expire_reading(ServiceState& service);

  // http_idle.cc
  void move_on(ServiceState& service, Index index);
  bool is_idle(const Connection& connection);
  bool may_go(const Connection& connection);
  bool close_idlest(ServiceState& service);
  bool is_silent(const Connection& connection);
  void close_idle(ServiceState& service);
  void close_if_idle(ServiceState& service, Index index);

  // connect.cc
  void place(ServiceState& service, Index index, bool reserved);
  enum class Attempt { kUnderWay, kFailed, kBusy, kShortage };
  void connect(ServiceState& service, Index index);
  Index next_endpoint(ServiceState& service, Connection& connection, Reach reach);
  Attempt attempt(ServiceState& service, Index index, Index endpoint);
  int open_socket(ServiceState& service, const Connection& connection, const SocketAddress& address);
  bool take_source(ServiceState& service, const Connection& connection, int fd, int family);
  bool has_address(const Connection& connection) const;
  int introduce(Connection& connection, std::optional<ProxyVersion> version, bool more);
  std::string header_of(const Connection& connection, ProxyVersion version) const;
  bool try_early(ServiceState& service, Connection& connection, const Endpoint& endpoint, int& error);
  bool died_connected(Connection& connection, int error);
  void on_connecting_event(Index index, unsigned side, std::uint32_t events);
  void established(ServiceState& service, Index index);
  void connect_failed(ServiceState& service, Index index, int error);
  static void note_tried(const ServiceState& service, Connection& connection, Index endpoint);
  void note_failure(ServiceState& service, Connection& connection, Index endpoint, int error);
  void leave_backend(ServiceState& service, Connection& connection);
  static bool connected_to_itself(int fd, const SocketAddress& address);

  // probe.cc
  bool probe_failed();
  void start_probe(Index endpoint);
  void on_probe_event(Index slot, std::uint32_t events);
  void end_probe(Index slot, bool succeeded);

  // hold.cc
  bool must_wait(const ServiceState& service) const;
  void hold(ServiceState& service, Index index, bool reserved);
  bool arrived_before(Index one, Index other);
  void queue_up(ServiceState& service, Index index);
  void return_to_hold(ServiceState& service, Index index);
  void hold_again(ServiceState& service, Index index, Reach reach);
  void leave_hold(ServiceState& service, Index index);
  void on_held_event(Index index, std::uint32_t events);
  void queue_release(ServiceState& service);
  void release(ServiceState& service);
  bool may_release(const ServiceState& service) const;
  void send_away(ServiceState& service, Index index);
  void expire_held(ServiceState& service);

  // ending.cc
  void end_behind(Connection& connection);
  void begin_linger(Index index);
  static bool has_everything(const Connection& connection);
  bool close_quiet(ServiceState& service);
  void check_ends(ServiceState& service);
  static void stop_awaiting_ends(ServiceState& service);
  void begin_reset(Index index);
  void close_connection(Index index, bool reset = false);
  void list_relaying(ServiceState& service, Index index);
  void list_idle(ServiceState& service, Index index);
  static IndexList* list_of(ServiceState& service, State state);
  void unlist(ServiceState& service, Index index);
  bool tick_service(ServiceState& service);
  void expire_connecting(ServiceState& service);
  void expire_idle(ServiceState& service, IndexList& list, std::size_t& relist);
  bool looks_whole(const Connection& connection);
  void tick_ending(ServiceState& service);

  // spread.cc
  bool tick_spreads();
  void look_for_targets(Spread& spread);
  void close_due(Spread& spread);
  bool is_spread(const Spread& spread, const Connection& connection);

  // sweep.cc
  void check_drains(ServiceState& service);
  void sweep_some();
  void sweep_one(const Sweep& sweep, Index index);
  void cut_one(ServiceState& service, Index index);
  void close_cut(ServiceState& service, Index index);
  void close_everything();

  // Constant after construction.
  const unsigned number_;
  PlaneShared& plane_;

  const TimePoint began_;  // tick 0

  // Any thread, guarded by mail_mutex_.
  std::mutex mail_mutex_;
  std::vector<std::function<void(Worker&)>> mail_;
  bool stop_asked_ = false;
  bool halt_asked_ = false;
  bool halted_ = false;
  std::condition_variable halt_changed_;

  // The worker's thread.
  Descriptor epoll_;
  Descriptor wake_;  // an eventfd, written by post(); edge-triggered and never read
  bool stopping_ = false;
  bool accepts_ = true;
  bool halting_ = false;  // at the end of this turn

  TimePoint time_ = began_;  // of this turn
  Tick now_ = 0;             // the same
  TimePoint next_tick_;      // meaningful while ticking_
  bool ticking_ = false;
  std::uint64_t arrivals_ = 0;
  std::uint32_t turns_ = 0;
  unsigned full_batches_ = 0;  // one after the other
  bool room_made_ = false;     // something was closed in this turn: those who paused may try again
  Deadline quiet_until_;       // no shortage is reported before

  Slab slab_;
  ChunkPool chunks_;
  ChunkPool small_chunks_{kSmallChunkSize, 256};  // 1 MiB of spares
  PipePool pipes_;
  Relay relay_;
  EndpointTable endpoints_;
  OriginTable origins_;
  ExchangeTable exchanges_;
  std::vector<std::unique_ptr<ServiceState>> services_;  // by id; null where unknown
  std::vector<ListenerSlot> listeners_;
  std::vector<Index> graveyard_;  // closed in this batch: events for them may still be in it
  std::vector<Index> again_;      // to be relayed again without waiting for an edge
  std::vector<Index> again_now_;  // the one being worked off
  std::vector<ServiceId> releasing_;
  Index idle_looked_at_ = 0;  // by close_idlest()
  Index released_ = kNone;    // who leaves the hold at this moment
  std::vector<Probe> probes_;
  std::vector<Spread> spreads_;
  std::vector<Sweep> sweeps_;
  std::vector<Listing> listings_;
  std::deque<std::function<void(Worker&)>>
      commands_;  // taken from mail_; they wait while clients are released

  std::thread thread_;
};

}  // namespace relayd::net
