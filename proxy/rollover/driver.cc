#include "proxy/rollover/driver.h"

#include <algorithm>
#include <cerrno>

#include "proxy/backend/environment.h"
#include "proxy/backend/launch.h"

namespace relayd::rollover {

Driver::Driver(backend::Context& context, net::DataPlane& data_plane, net::ServiceId id,
               config::Service service, Outside outside)
    : context_(context),
      data_plane_(data_plane),
      id_(id),
      outside_(std::move(outside)),
      service_(std::move(service)),
      timer_(context.loop) {}

Driver::~Driver() {
  for (Waiter& waiter : std::exchange(waiters_, {})) {
    if (waiter.done) waiter.done(fail("service " + service_.name + " is gone"));
  }
}

Result<void> Driver::check_definition(const config::Service& service,
                                      const std::map<std::string, std::string>& env) {
  const auto definition = define(service, env, {});
  if (!definition) return std::unexpected(definition.error());
  return {};
}

Result<void> Driver::start(std::vector<backend::PublicSocket> sockets) {
  auto definition = define(service_, {}, std::move(sockets));
  if (!definition) return std::unexpected(definition.error());
  next_definition_ = *definition;
  feed(event::Start{policy_of(service_), launch_of(service_)});
  return {};
}

Result<void> Driver::rollover(const config::Service& newest, config::Mode mode,
                              const std::map<std::string, std::string>& env, RolloverWaiter waiter,
                              std::vector<backend::PublicSocket> sockets) {
  if (!may_roll_over(state_)) return fail(busy(), EBUSY);
  auto definition = define(newest, env, std::move(sockets));
  if (!definition) return std::unexpected(definition.error());
  if (newest.backend.instances != service_.backend.instances) scaled_.reset();
  next_definition_ = *definition;
  service_ = newest;
  rollover_waiters_.push_back({std::move(waiter), 0, {}});
  feed(event::Rollover{mode, policy_of(newest), launch_of(newest)});
  return {};
}

// Why no rollover can begin now, and what to do.
std::string Driver::busy() const {
  if (state_.rollover && state_.rollover->outcome == Outcome::kDone) {
    return "a " + std::string(config::to_string(state_.rollover->mode)) + " rollover of " + service_.name +
           " is in progress; wait for it, or give `relayctl abort`";
  }
  if (state_.rollover)
    return "the previous definition of " + service_.name + " is being started again; wait for it";
  return "service " + service_.name + " is " + to_string(state_.phase) + "; wait for it";
}

void Driver::rollover_later() { feed(event::RolloverLater{}); }

Result<void> Driver::abort() {
  if (!state_.rollover) return fail("no rollover of " + service_.name + " is in progress");
  if (state_.rollover->outcome != Outcome::kDone) {
    return fail("the rollover of " + service_.name +
                " has ended already; its previous definition is being started");
  }
  feed(event::Abort{});
  return {};
}

void Driver::pause(Done done) {
  feed(event::Pause{});
  wait_for(
      [name = service_.name](const State& s) -> std::optional<Result<void>> {
        if (s.phase == Phase::kPaused) return Result<void>{};
        if (s.phase == Phase::kPausing) return std::nullopt;
        return fail("the pause of " + name + " did not come about: it is " + to_string(s.phase));
      },
      std::move(done));
}

void Driver::resume(Done done) {
  feed(event::Resume{});
  wait_until_serving(std::move(done));
}

void Driver::wait_until_serving(Done done) {
  wait_for(
      [name = service_.name](const State& s) -> std::optional<Result<void>> {
        if (!s.route.empty()) return Result<void>{};
        if (s.phase == Phase::kPausing || s.phase == Phase::kPaused || s.phase == Phase::kStopping ||
            s.phase == Phase::kStopped) {
          return fail("service " + name + " does not serve: it is " + to_string(s.phase));
        }
        const Generation* g = s.serving();
        const bool crashed =
            g != nullptr && !g->was_ready &&
            std::ranges::any_of(g->instances, [](const Instance& i) { return i.restarts > 0; });
        if (crashed) return fail("service " + name + " does not start; it is tried again with back-off");
        return std::nullopt;
      },
      std::move(done));
}

void Driver::scale(unsigned instances, Done done) {
  scaled_ = instances;
  feed(event::Scale{instances});
  wait_for(
      [name = service_.name, instances](const State& s) -> std::optional<Result<void>> {
        if (is_replacing(s.phase)) return std::nullopt;  // each generation is on its way there
        const Generation* g = s.serving();
        if (g == nullptr || g->launch.instances != instances)
          return Result<void>{};  // takes effect at the next start
        if (g->instances.size() < instances) return std::nullopt;
        for (unsigned i = 0; i < instances; ++i) {
          switch (g->instances[i].state) {
            case InstanceState::kReady:
              break;
            case InstanceState::kWaiting:
            case InstanceState::kKilled:
              return fail("instance " + std::to_string(i) + " of " + name +
                          " does not get ready; it is tried again with back-off");
            default:
              return std::nullopt;
          }
        }
        return Result<void>{};
      },
      std::move(done));
}

void Driver::adjust(const config::Service& newest) {
  if (newest.backend.instances != service_.backend.instances) scaled_.reset();
  const bool new_balance = newest.backend.balance != service_.backend.balance;
  service_ = newest;
  feed(event::Adjust{policy_of(newest), launch_of(newest)});
  if (new_balance) carry_out(action::SetRoute{state_.route});
}

void Driver::stop(bool fast) { feed(event::Stop{fast, data_plane_.counts(id_).held > 0}); }

void Driver::accepting_stopped() {
  outside_.accepting_stopped();
  feed(event::AcceptingStopped{});
}

void Driver::drained(std::uint64_t token) {
  const auto found = drains_.find(token);
  if (found == drains_.end() || --found->second > 0) return;
  drains_.erase(found);
  feed(event::Drained{token});
}

unsigned Driver::instances_of(const config::Service& service) const {
  if (!service.backend.targets.empty()) return static_cast<unsigned>(service.backend.targets.size());
  const bool file_changed = service.backend.instances != service_.backend.instances;
  return file_changed ? service.backend.instances : scaled_.value_or(service.backend.instances);
}

// A rollover may have brought other targets than the file's.
unsigned Driver::wanted_instances() const {
  const std::vector<std::string> targets = serving_targets();
  return targets.empty() ? instances_of(service_) : static_cast<unsigned>(targets.size());
}

std::vector<std::string> Driver::serving_targets() const {
  const auto found = definitions_.find(state_.last_served);
  return found != definitions_.end() ? found->second->service.backend.targets : std::vector<std::string>{};
}

const backend::AnyInstance* Driver::instance(GenerationNumber generation, InstanceIndex index) const {
  const auto found = slots_.find({generation, index});
  return found != slots_.end() ? found->second.instance.get() : nullptr;
}

std::string Driver::last_end(GenerationNumber generation, InstanceIndex index) const {
  const auto found = slots_.find({generation, index});
  return found != slots_.end() ? found->second.last_end : "";
}

InstanceLoads::Counts Driver::load(GenerationNumber generation, InstanceIndex index) const {
  const auto found = slots_.find({generation, index});
  return found != slots_.end() ? found->second.loads.counts() : InstanceLoads::Counts{};
}

InstanceLoads::Counts Driver::loads(GenerationNumber generation) const {
  InstanceLoads::Counts sum;
  for (auto it = slots_.lower_bound({generation, 0}); it != slots_.end() && it->first.first == generation;
       ++it) {
    const InstanceLoads::Counts counts = it->second.loads.counts();
    sum.active += counts.active;
    sum.requests += counts.requests;
  }
  return sum;
}

std::uint64_t Driver::steered(GenerationNumber generation, int instance) const {
  return outside_.steering != nullptr ? outside_.steering->connections(generation, instance) : 0;
}

std::uint64_t Driver::connections(GenerationNumber generation) const {
  return loads(generation).active + steered(generation, -1);
}
std::uint64_t Driver::requests(GenerationNumber generation) const { return loads(generation).requests; }

// One event at a time: what an action causes at once waits in the queue until the step's other actions are
// done.
void Driver::feed(Event event) {
  queue_.push_back(std::move(event));
  if (!processing_) process_queue();
}

void Driver::process_queue() {
  processing_ = true;
  bool stopped = false;
  while (!queue_.empty()) {
    const Event event = std::move(queue_.front());
    queue_.pop_front();
    const Actions actions = step(state_, event, monotonic_now());
    for (const Action& action : actions) {
      std::visit([this](const auto& a) { carry_out(a); }, action);
      stopped |= std::holds_alternative<action::Stopped>(action);
    }
  }
  processing_ = false;
  forget_unused();
  arm_timer();
  answer_waiters();
  if (stopped) outside_.stopped();
}

void Driver::arm_timer(Duration least) {
  const Deadline due = next_deadline(state_);
  if (!due) {
    timer_.stop();
    return;
  }
  timer_.start(std::max(*due - monotonic_now(), least), [this] { feed(event::Tick{why_not_ready()}); });
}

void Driver::wait_for(std::function<std::optional<Result<void>>(const State&)> check, Done done) {
  waiters_.push_back({std::move(check), std::move(done)});
  answer_waiters();
}

void Driver::answer_waiters() {
  for (auto it = waiters_.begin(); it != waiters_.end();) {
    auto answer = it->check(state_);
    if (!answer) {
      ++it;
      continue;
    }
    const Done done = std::move(it->done);
    it = waiters_.erase(it);
    if (done) done(std::move(*answer));
  }
  answer_rollover_waiters();
}

// Those whose rollover has ended, once its old generation is gone where they wait for that.
void Driver::answer_rollover_waiters() {
  for (auto it = rollover_waiters_.begin(); it != rollover_waiters_.end();) {
    if (it->drains == 0 || state_.find(it->drains) != nullptr) {
      ++it;
      continue;
    }
    Waiting waiting = std::move(*it);
    it = rollover_waiters_.erase(it);
    waiting.report.drained = true;
    if (waiting.who.done) waiting.who.done(waiting.report);
  }
}

Result<std::shared_ptr<const backend::Definition>> Driver::define(
    const config::Service& service, const std::map<std::string, std::string>& env,
    std::vector<backend::PublicSocket> sockets) {
  auto environment = backend::definition_environment(service.backend, env);
  if (!environment) return std::unexpected(environment.error());
  auto definition = std::make_shared<const backend::Definition>(
      backend::Definition{service, std::move(*environment), std::move(sockets)});
  if (const auto fit = backend::check_templates(*definition); !fit) return std::unexpected(fit.error());
  return definition;
}

Launch Driver::launch_of(const config::Service& service) const {
  Launch launch;
  launch.instances = instances_of(service);
  launch.ready_timeout = service.health.ready_timeout;
  launch.kill_timeout = service.backend.kill_timeout;
  launch.restart_delay = service.backend.restart_delay;
  // Nothing of relayd's failed: it goes on being checked.
  if (!service.backend.targets.empty()) launch.restart_delay.max = launch.restart_delay.min;
  launch.owns_clients = service.backend.address == config::AddressKind::kHandoff;
  launch.stop = launch.owns_clients ? config::StopWhen::kAtOnce : service.backend.stop;
  return launch;
}

Policy Driver::policy_of(const config::Service& service) const {
  return Policy{
      service.rollover.graceful_timeout, service.rollover.max_old_generations, service.rollover.close_spread,
      service.rollover.tunnel_timeout.value_or(service.rollover.graceful_timeout), service.rollover.surge};
}

// Whether the machine starts another process in a place that has none.
bool Driver::awaits_process(Key key) const {
  const Generation* g = state_.find(key.first);
  if (g == nullptr || key.second >= g->instances.size()) return false;
  return g->instances[key.second].state == InstanceState::kWaiting;
}

// What waits in the queue of a place without a process would wait in vain from here on. Where relayd
// connected it, it is reset, and goes elsewhere; where it was steered there, it is accepted and forwarded.
void Driver::let_go(Key key, Slot& slot) {
  slot.listening.reset();
  if (outside_.steering != nullptr) outside_.steering->instance_ended(key.first, key.second, false);
}

// Definitions stay as long as something of the generation runs, or may be started again.
void Driver::forget_unused() {
  const auto needed = [this](GenerationNumber number) {
    return state_.find(number) != nullptr || number == state_.last_served ||
           (state_.pending && state_.pending->copy_of == number) ||
           (state_.rollover && state_.rollover->from == number);
  };
  std::erase_if(definitions_, [&needed](const auto& entry) { return !needed(entry.first); });
  for (auto& [key, slot] : slots_) {
    if (slot.instance == nullptr && slot.listening != nullptr && !awaits_process(key)) let_go(key, slot);
  }
  std::erase_if(slots_, [this](const auto& entry) {
    return entry.second.instance == nullptr && state_.find(entry.first.first) == nullptr;
  });
}

}  // namespace relayd::rollover
