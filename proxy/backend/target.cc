#include "proxy/backend/target.h"

#include <unistd.h>

#include <algorithm>
#include <utility>

#include "proxy/backend/health.h"
#include "proxy/backend/launch.h"
#include "proxy/backend/lookup.h"
#include "proxy/backend/probe_maker.h"
#include "proxy/base/time.h"
#include "proxy/config/targets.h"

namespace relayd::backend {
namespace {

// Between two look-ups of one name, whoever asks for the second.
constexpr Duration kLeastPause{1000};
// Until a name that could not be resolved is looked up again.
constexpr Duration kRetry{2000};

}  // namespace

struct Target::Impl {
  // One address, and what its checks say.
  struct Place {
    SocketAddress address;
    std::unique_ptr<HealthMonitor> health;
    std::string error;     // of the last check; empty: none has failed, or it is well
    bool well = false;     // takes clients
    bool tried = false;    // has had a first result
    bool leaving = false;  // the name no longer has it
  };

  Impl(Context& c, std::shared_ptr<const Definition> d, std::uint32_t g, std::uint16_t i, InstanceEvents e)
      : context(c),
        definition(std::move(d)),
        generation(g),
        index(i),
        events(std::move(e)),
        plan(plan_health(definition->service)),
        clock(context.loop),
        end(context.loop) {}

  const std::string& name() const { return definition->service.backend.targets.at(index); }
  bool is_name() const { return !host.empty(); }

  Result<void> start();
  void look_up();
  void look_up_within(Duration time);
  void resolved(Result<Resolved> result);
  void take(const std::vector<SocketAddress>& addresses);
  Result<void> resume(const TargetState& state);
  Result<void> add(const SocketAddress& address, HealthState health = {});
  Result<MakeProbe> probe_of(const SocketAddress& address);
  void set_well(const SocketAddress& address, bool well, const std::string& error);
  void check_failed(const SocketAddress& address, const std::string& error);
  void settle();
  void stop();
  void tell_end();
  void tell(const char* type, const std::string& text) const {
    if (events.told) events.told(type, text);
  }

  Place* find(const SocketAddress& address);
  std::vector<SocketAddress> serving_now() const;
  std::string troubles() const;
  std::string last_error() const;

  // Constant after construction; what the target's name says, after start().
  Context& context;
  const std::shared_ptr<const Definition> definition;
  const std::uint32_t generation;
  const std::uint16_t index;
  const InstanceEvents events;
  const HealthPlan plan;
  std::string host;  // empty: an address
  std::uint16_t port = 0;

  std::vector<std::unique_ptr<Place>> places;
  std::vector<SocketAddress> serving;  // as last told
  SocketAddress first;                 // of `serving`, or the last one there was
  bool was_ready = false;
  bool ended = false;
  std::string final_error;  // after stop()

  std::unique_ptr<Lookup> lookup;  // under way
  std::string unresolved;          // why the last one failed; empty: it did not
  TimePoint looked_up{};
  TimePoint due{};  // when `clock` fires
  Timer clock;      // the next look-up
  Timer end;        // tells `exited`
};

Result<void> Target::Impl::start() {
  const auto target = config::parse_target(name());
  if (!target) return std::unexpected(target.error());
  host = target->host;
  port = target->port;
  if (!is_name()) return add(*target->address);
  look_up();
  return {};
}

Result<void> Target::Impl::resume(const TargetState& state) {
  const auto target = config::parse_target(name());
  if (!target) return std::unexpected(target.error());
  host = target->host;
  port = target->port;
  serving = state.serving;
  first = state.first;
  was_ready = state.was_ready;
  final_error = state.final_error;
  unresolved = state.unresolved;
  if (state.ended) {
    tell_end();
    return {};
  }
  for (const TargetState::Place& before : state.places) {
    if (auto added = add(before.address, before.health); !added) return added;
    Place& place = *places.back();
    place.error = before.error;
    place.well = before.well;
    place.tried = before.tried;
    place.leaving = before.leaving;
  }
  if (is_name()) look_up();
  return {};
}

void Target::Impl::look_up() {
  looked_up = monotonic_now();
  lookup = std::make_unique<Lookup>(context.loop, host, port,
                                    [this](Result<Resolved> result) { resolved(std::move(result)); });
}

// Brings the next look-up forward, but not too close to the last one.
void Target::Impl::look_up_within(Duration time) {
  if (!is_name() || lookup) return;
  const TimePoint now = monotonic_now();
  const TimePoint wanted = std::max(now + time, looked_up + kLeastPause);
  if (clock.active() && due <= wanted) return;
  due = wanted;
  clock.start(wanted - now, [this] { look_up(); });
}

void Target::Impl::resolved(Result<Resolved> result) {
  lookup.reset();
  if (!result) {
    const bool news = unresolved.empty();
    unresolved = result.error().message;
    look_up_within(kRetry);
    if (news)
      tell("target_unresolved", unresolved + (places.empty() ? "" : "; its last known addresses are kept"));
    return;
  }
  const bool again = !std::exchange(unresolved, "").empty();
  look_up_within(result->valid);
  if (again) tell("target_resolved", host + " can be resolved again");
  take(result->addresses);
}

void Target::Impl::take(const std::vector<SocketAddress>& addresses) {
  for (const auto& place : places) {
    place->leaving = std::ranges::find(addresses, place->address) == addresses.end();
  }
  for (const SocketAddress& address : addresses) {
    if (find(address) != nullptr) continue;
    if (const auto added = add(address); !added) tell("warning", name() + ": " + added.error().message);
  }
  // Of those that the name no longer has, only such as take clients are kept for a while.
  std::erase_if(places, [](const auto& place) { return place->leaving && !place->well; });
  std::ranges::sort(places, {}, [](const auto& place) { return place->address.to_string(); });
  settle();
}

Result<void> Target::Impl::add(const SocketAddress& address, HealthState health) {
  auto make = probe_of(address);
  if (!make) return std::unexpected(make.error());
  auto place = std::make_unique<Place>();
  place->address = address;
  HealthMonitor::Events told;
  told.ready = [this, address] { set_well(address, true, ""); };
  told.healthy = told.ready;
  told.unhealthy = [this, address](const std::string& error) { set_well(address, false, error); };
  told.failed = [this, address](const std::string& error) { check_failed(address, error); };
  place->health = std::make_unique<HealthMonitor>(context.loop, plan, std::move(*make), std::move(told),
                                                  std::move(health));
  places.push_back(std::move(place));
  return {};
}

Result<MakeProbe> Target::Impl::probe_of(const SocketAddress& address) {
  const Placement placement{generation, index, address, ""};
  Program frame;
  if (plan.kind == HealthPlan::Kind::kCommand) {
    const rlimit original{context.original_nofile_soft, context.original_nofile_hard};
    auto filled =
        program_frame(*definition, placement, std::nullopt, original, inherited_environment(::environ));
    if (!filled) return std::unexpected(filled.error());
    frame = std::move(*filled);
  }
  return probe_maker(context, *definition, plan, placement, frame, /*listening=*/-1);
}

void Target::Impl::set_well(const SocketAddress& address, bool well, const std::string& error) {
  Place* place = find(address);
  if (place == nullptr) return;
  place->well = well;
  place->tried = true;
  place->error = error;
  if (!well) look_up_within(Duration::zero());
  settle();
}

// Its name may stand for something else by now.
void Target::Impl::check_failed(const SocketAddress& address, const std::string& error) {
  Place* place = find(address);
  if (place == nullptr) return;
  const bool first_result = !std::exchange(place->tried, true);
  place->error = error;
  look_up_within(Duration::zero());
  if (first_result) settle();
}

Target::Impl::Place* Target::Impl::find(const SocketAddress& address) {
  const auto found = std::ranges::find_if(places, [&](const auto& p) { return p->address == address; });
  return found == places.end() ? nullptr : found->get();
}

// Those that are well; such as the name no longer has only where there is no other.
std::vector<SocketAddress> Target::Impl::serving_now() const {
  std::vector<SocketAddress> stay;
  std::vector<SocketAddress> leave;
  for (const auto& place : places) {
    if (place->well) (place->leaving ? leave : stay).push_back(place->address);
  }
  return stay.empty() ? leave : stay;
}

// Tells what has changed, if anything has. Calls back last: `this` may be gone afterwards.
void Target::Impl::settle() {
  const auto stays = [](const auto& place) { return !place->leaving; };
  if (std::ranges::any_of(places, [&](const auto& p) { return stays(p) && p->well; })) {
    std::erase_if(places, [](const auto& place) { return place->leaving; });
  }
  std::vector<SocketAddress> now = serving_now();
  if (!was_ready) {
    const bool all_tried = std::ranges::all_of(places, [](const auto& p) { return p->tried; });
    if (now.empty() || !all_tried) return;
  } else if (now == serving) {
    return;
  }
  const bool served = !serving.empty();
  serving = std::move(now);
  if (!serving.empty()) first = serving.front();
  if (is_name() && !serving.empty()) {
    std::string list;
    for (const SocketAddress& address : serving) list += (list.empty() ? "" : ", ") + address.to_string();
    const std::string other = troubles();
    tell("target_addresses", name() + " is " + list + (other.empty() ? "" : "; " + other));
  }
  if (!std::exchange(was_ready, true)) {
    if (const auto call = events.ready) call();
  } else if (serving.empty()) {
    const std::string error = last_error();
    if (const auto call = events.unhealthy) call(error);
  } else if (!served) {
    if (const auto call = events.healthy) call();
  } else if (const auto call = events.addresses_changed) {
    call();
  }
}

void Target::Impl::stop() {
  if (ended) return;
  final_error = last_error();
  tell_end();
}

void Target::Impl::tell_end() {
  ended = true;
  clock.stop();
  lookup.reset();
  places.clear();
  end.start(Duration::zero(), [this] {
    const auto call = events.exited;
    if (call) call(ExitReport{});
  });
}

// Addresses that are not well beside such as are.
std::string Target::Impl::troubles() const {
  std::string text;
  for (const auto& place : places) {
    if (place->well || place->error.empty()) continue;
    text += (text.empty() ? "" : "; ") + place->address.to_string() + " fails its checks: " + place->error;
  }
  return text;
}

std::string Target::Impl::last_error() const {
  if (ended) return final_error;
  const std::string lead = "target " + name();
  for (const auto& place : places) {
    if (place->well || place->error.empty()) continue;
    return lead + (is_name() ? " (" + place->address.to_string() + ")" : "") + ": " + place->error;
  }
  if (!unresolved.empty()) return lead + ": " + unresolved;
  return "";
}

Target::Target(Context& context, std::shared_ptr<const Definition> definition, std::uint32_t generation,
               std::uint16_t index, InstanceEvents events)
    : impl_(std::make_unique<Impl>(context, std::move(definition), generation, index, std::move(events))) {}

Target::~Target() = default;

Result<void> Target::start() { return impl_->start(); }
InstanceRecord Target::save() const {
  TargetState state;
  for (const auto& place : impl_->places) {
    state.places.push_back(
        {place->address, place->error, place->well, place->tried, place->leaving, place->health->state()});
  }
  state.serving = impl_->serving;
  state.first = impl_->first;
  state.was_ready = impl_->was_ready;
  state.ended = impl_->ended;
  state.final_error = impl_->final_error;
  state.unresolved = impl_->unresolved;
  return {.process = std::nullopt, .target = std::move(state)};
}

Result<void> Target::resume(const InstanceRecord& record) {
  if (!record.target) return fail("the record of target " + impl_->name() + " is not that of a target");
  return impl_->resume(*record.target);
}

void Target::stop() { impl_->stop(); }
bool Target::alive() const { return !impl_->ended; }
const SocketAddress& Target::address() const { return impl_->first; }
std::vector<SocketAddress> Target::addresses() const { return impl_->serving; }
std::string Target::target() const { return impl_->name(); }
std::string Target::last_check_error() const { return impl_->last_error(); }

std::string Target::status_text() const {
  if (!impl_->unresolved.empty()) return impl_->unresolved + "; the last known addresses are kept";
  return impl_->troubles();
}

std::unique_ptr<AnyInstance> make_instance(Context& context, std::shared_ptr<const Definition> definition,
                                           std::uint32_t generation, std::uint16_t index,
                                           InstanceEvents events,
                                           std::shared_ptr<const Descriptor> listening) {
  if (definition->service.backend.targets.empty()) {
    return std::make_unique<Instance>(context, std::move(definition), generation, index, std::move(events),
                                      std::move(listening));
  }
  return std::make_unique<Target>(context, std::move(definition), generation, index, std::move(events));
}

}  // namespace relayd::backend
