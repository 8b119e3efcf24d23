#pragma once

#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "proxy/backend/instance.h"
#include "proxy/base/loop.h"
#include "proxy/net/data_plane.h"
#include "proxy/rollover/machine.h"
#include "proxy/rollover/report.h"

namespace relayd::rollover {

// Carries one service through its rollovers: feeds the machine with what processes, workers and people do,
// and carries out what it says. Belongs to the main thread. Owns the service's instances; the loop, the data
// plane and the backend context outlive it.
class Driver {
 public:
  // Called on the main loop; the driver may not be destroyed inside any but `stopped`.
  struct Outside {
    std::function<void(const Happening&)> happened;
    std::function<void()> want_rollover;  // the one a signal asked for while another was in progress
    std::function<void(const std::string&)>
        launch_failed;  // a generation that should serve could not be started
    std::function<void()> route_changed;
    std::function<void()> accepting_stopped;  // no worker uses the listeners any more
    std::function<void()> stopped;            // nothing is left of the service
  };
  using Done = std::function<void(Result<void>)>;

  Driver(backend::Context& context, net::DataPlane& data_plane, net::ServiceId id, config::Service service,
         Outside outside);
  ~Driver();  // answers who still waits, and kills what still runs
  Driver(const Driver&) = delete;
  Driver& operator=(const Driver&) = delete;

  // What can be known of a definition before anything is touched: its env_file, its templates.
  static Result<void> check_definition(const config::Service& service,
                                       const std::map<std::string, std::string>& env);

  // Launches the first generation. The error is that of check_definition().
  Result<void> start();
  // Replaces the serving generation by one of `newest`. Refused with EBUSY while another rollover is in
  // progress, and with the error of an env_file; `done` then never runs. `until_drained`: done runs when the
  // old generation is gone.
  Result<void> rollover(const config::Service& newest, config::Mode mode,
                        const std::map<std::string, std::string>& env, bool until_drained,
                        std::function<void(const Report&)> done);
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
  // From the data plane: Events::drained.
  void drained(std::uint64_t token);

  const State& state() const { return state_; }
  const config::Service& service() const { return service_; }  // as last given to start, rollover or adjust
  const std::optional<Report>& last_report() const { return last_report_; }
  unsigned wanted_instances() const { return instances_of(service_); }
  // How many a generation of `service` would have: the file's number, unless people have scaled it since.
  unsigned instances_of(const config::Service& service) const;
  // Why no rollover can begin now, and what to do.
  std::string busy() const;
  // Null where there is no such process.
  const backend::Instance* instance(GenerationNumber generation, InstanceIndex index) const;
  // How its last process ended; empty where none has.
  std::string last_end(GenerationNumber generation, InstanceIndex index) const;
  const net::EndpointLoad* load(GenerationNumber generation, InstanceIndex index) const;
  std::uint64_t connections(GenerationNumber generation) const;
  std::uint64_t requests(GenerationNumber generation) const;  // HTTP: answered by it, as far as it is known
  bool holding() const { return state_.route.empty(); }

 private:
  using Key = std::pair<GenerationNumber, InstanceIndex>;
  struct Slot {
    std::unique_ptr<backend::Instance> instance;
    std::shared_ptr<net::EndpointLoad> load;
    std::string last_end;  // how its last process ended; empty: none has
  };
  // Somebody who waits for the state to come to something; the check answers once it has.
  struct Waiter {
    std::function<std::optional<Result<void>>(const State&)> check;
    Done done;
  };
  struct DrainWaiter {
    GenerationNumber generation;
    Report report;
    std::function<void(const Report&)> done;
  };

  void feed(Event event);
  void process_queue();
  void answer_waiters();
  void arm_timer();
  void wait_for(std::function<std::optional<Result<void>>(const State&)> check, Done done);
  static Result<std::shared_ptr<const backend::Definition>> define(
      const config::Service& service, const std::map<std::string, std::string>& env);
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

  void instance_ready(Key key);
  void instance_exited(Key key, const backend::ExitReport& report);
  void feed_deferred_ready();
  void tell_with_counts(Happening happening, std::optional<GenerationNumber> generation) const;
  std::string last_words(Key key) const;
  std::string why_not_ready() const;
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
  std::deque<Event> queue_;
  bool processing_ = false;
  Timer timer_;
  std::list<Waiter> waiters_;
  std::list<DrainWaiter> drain_waiters_;
  std::function<void(const Report&)> on_rollover_end_;
  bool until_drained_ = false;
  std::optional<Report> last_report_;
};

}  // namespace relayd::rollover
