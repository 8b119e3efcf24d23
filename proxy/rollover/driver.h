#pragma once

#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "proxy/backend/target.h"
#include "proxy/base/loop.h"
#include "proxy/net/data_plane.h"
#include "proxy/rollover/loads.h"
#include "proxy/rollover/machine.h"
#include "proxy/rollover/record.h"
#include "proxy/rollover/report.h"
#include "proxy/rollover/steering.h"

namespace relayd::rollover {

// Carries one service through its rollovers: feeds the machine with what processes, workers and people do,
// and carries out what it says. Belongs to the main thread. Owns the service's instances; the loop, the data
// plane and the backend context outlive it.
class Driver {
 public:
  // Called on the main loop; the driver may not be destroyed inside any but `stopped`.
  struct Outside {
    std::function<void(const Happening&)> happened;
    std::function<void(const Report&)> rollover_ended;  // before whoever waits for it is answered
    std::function<void()> want_rollover;  // the one a signal asked for while another was in progress
    std::function<void(const std::string&)>
        launch_failed;  // a generation that should serve could not be started
    std::function<void()> route_changed;
    std::function<void()> accepting_stopped;  // no worker uses the listeners any more
    std::function<void()> stopped;            // nothing is left of the service
    Steering* steering = nullptr;             // outlives the driver; null: the service is never steered
  };
  using Done = std::function<void(Result<void>)>;
  // Who waits for the end of a rollover.
  struct RolloverWaiter {
    std::uint64_t ticket = 0;    // names him over an upgrade of relayd; 0: he does not outlive one
    bool until_drained = false;  // and for the end of the old generation
    std::function<void(const Report&)> done = nullptr;
  };

  Driver(backend::Context& context, net::DataPlane& data_plane, net::ServiceId id, config::Service service,
         Outside outside);
  ~Driver();  // answers who still waits, and kills what still runs
  Driver(const Driver&) = delete;
  Driver& operator=(const Driver&) = delete;

  // What can be known of a definition before anything is touched: its env_file, its templates.
  static Result<void> check_definition(const config::Service& service,
                                       const std::map<std::string, std::string>& env);

  // Launches the first generation. The error is that of check_definition().
  // `sockets`, here and below: what a generation with `address: handoff` gets.
  Result<void> start(std::vector<backend::PublicSocket> sockets = {});
  // Replaces the serving generation by one of `newest`. Refused with EBUSY while another rollover is in
  // progress, and with the error of an env_file; the waiter is then never answered.
  Result<void> rollover(const config::Service& newest, config::Mode mode,
                        const std::map<std::string, std::string>& env, RolloverWaiter waiter,
                        std::vector<backend::PublicSocket> sockets = {});
  void rollover_later();  // once the one in progress has ended
  Result<void> abort();   // error: nothing to abort
  void pause(Done done);
  void resume(Done done);
  // Answers when an instance serves, or when it is clear that none will soon.
  void wait_until_serving(Done done);
  void scale(unsigned instances,
             Done done);  // at least 1; kept over rollovers until the file's number changes
  void adjust(const config::Service& newest);  // what takes effect without a rollover
  void stop(bool fast);
  void accepting_stopped();
  // From the data plane: Events::drained; and from the steering.
  void drained(std::uint64_t token);

  // ---- For an upgrade of relayd (driver_record.cc) ----

  // Changes nothing.
  DriverRecord save() const;
  // In place of start(): takes up what the record names, with its descriptors. Nothing is asked of the data
  // plane and nothing is carried out yet. Throws std::runtime_error where it cannot be taken up.
  void restore(const DriverRecord& record);
  // After restore(), when the data plane has its connections: tells it what it has to know.
  void ask_again();
  // Whoever waits by this ticket for a rollover is answered by `done`; false: nobody does.
  bool attach(std::uint64_t ticket, std::function<void(const Report&)> done);
  std::vector<std::uint64_t> tickets() const;
  // What the connections of an instance count on. Null: there is no such place any more.
  std::shared_ptr<net::EndpointLoad> load_at(GenerationNumber generation, InstanceIndex index,
                                             const SocketAddress& address);

  const State& state() const { return state_; }
  const config::Service& service() const { return service_; }  // as last given to start, rollover or adjust
  const std::optional<Report>& last_report() const { return last_report_; }
  unsigned wanted_instances() const;
  // How many a generation of `service` would have: one for each target, or the file's number, unless people
  // have scaled it since.
  unsigned instances_of(const config::Service& service) const;
  // Why no rollover can begin now, and what to do.
  std::string busy() const;
  // Of the generation that served last, or serves; empty where relayd runs the app itself.
  std::vector<std::string> serving_targets() const;
  // Null where there is none.
  const backend::AnyInstance* instance(GenerationNumber generation, InstanceIndex index) const;
  // How its last process ended; empty where none has.
  std::string last_end(GenerationNumber generation, InstanceIndex index) const;
  InstanceLoads::Counts load(GenerationNumber generation, InstanceIndex index) const;
  std::uint64_t connections(GenerationNumber generation) const;
  std::uint64_t requests(GenerationNumber generation) const;  // HTTP: answered by it, as far as it is known
  // Of these, the steered ones; `instance` -1: all.
  std::uint64_t steered(GenerationNumber generation, int instance) const;
  bool holding() const { return state_.route.empty(); }

 private:
  using Key = std::pair<GenerationNumber, InstanceIndex>;
  struct Slot {
    std::unique_ptr<backend::AnyInstance> instance;
    InstanceLoads loads;
    std::string last_end;  // how its last process ended; empty: none has
    std::string refusal;   // why relayd killed it although it was ready; empty: it did not
    // With `address: activation`, passed on from process to process while the place is wanted, so that nobody
    // in its queue is lost with one of them.
    std::shared_ptr<const Descriptor> listening = nullptr;
  };
  // Somebody who waits for the state to come to something; the check answers once it has.
  struct Waiter {
    std::function<std::optional<Result<void>>(const State&)> check;
    Done done;
  };
  struct Waiting {
    RolloverWaiter who;
    GenerationNumber drains = 0;  // of a rollover that has ended: what is still there; 0: it is in progress
    Report report;
  };

  void feed(Event event);
  void process_queue();
  void answer_waiters();
  void answer_rollover_waiters();
  void give_route(const std::vector<RouteEntry>& entries);
  void arm_timer(Duration least = Duration::zero());
  void wait_for(std::function<std::optional<Result<void>>(const State&)> check, Done done);
  static Result<std::shared_ptr<const backend::Definition>> define(
      const config::Service& service, const std::map<std::string, std::string>& env,
      std::vector<backend::PublicSocket> sockets);
  InstanceLoads::Counts loads(GenerationNumber generation) const;
  Launch launch_of(const config::Service& service) const;
  Policy policy_of(const config::Service& service) const;

  void carry_out(const action::CreateGeneration& a);
  void carry_out(const action::StartInstance& a);
  void carry_out(const action::StopInstance& a);
  void carry_out(const action::KillInstance& a);
  void carry_out(const action::SetRoute& a);
  void carry_out(const action::Drain& a);
  void carry_out(const action::Cut& a);
  void carry_out(const action::SpreadCloses& a);
  void carry_out(const action::StopAccepting& a);
  void carry_out(const action::CloseHeld& a);
  void carry_out(const action::RolloverEnded& a);
  void carry_out(const action::WantRollover& a);
  void carry_out(const action::LaunchFailed& a);
  void carry_out(const action::Note& a);
  void carry_out(const action::Stopped& a);

  backend::InstanceEvents events_of(Key key);
  void instance_ready(Key key);
  bool can_be_steered(Key key);
  void steer(const std::vector<RouteEntry>& route);
  void instance_exited(Key key, const backend::ExitReport& report);
  void feed_deferred_ready();
  void tell_with_counts(Happening happening, std::optional<GenerationNumber> generation) const;
  std::string last_words(Key key) const;
  std::string why_not_ready() const;
  bool awaits_process(Key key) const;
  void let_go(Key key, Slot& slot);
  void forget_unused();

  // Constant after construction.
  backend::Context& context_;
  net::DataPlane& data_plane_;
  const net::ServiceId id_;
  const Outside outside_;

  config::Service service_;
  std::optional<unsigned> scaled_;  // by people, against the file
  State state_;
  std::shared_ptr<const backend::Definition> next_definition_;  // of the rollover asked for last
  std::map<GenerationNumber, std::shared_ptr<const backend::Definition>> definitions_;
  std::map<Key, Slot> slots_;
  std::vector<Key>
      deferred_ready_;  // ready, but a sibling has died unnoticed: its end is told to the machine first
  std::map<std::uint64_t, int> drains_;  // token -> of how many the word is still out
  std::deque<Event> queue_;
  bool processing_ = false;
  Timer timer_;
  std::list<Waiter> waiters_;
  std::list<Waiting> rollover_waiters_;
  std::optional<Report> last_report_;
};

}  // namespace relayd::rollover
