// The driver over an upgrade of relayd: what it leaves, and how the next image takes it up.
#include <algorithm>
#include <stdexcept>

#include "proxy/rollover/driver.h"

namespace relayd::rollover {
namespace {

// What has come meanwhile (READY=1, an answer to a check) is looked at before any time is up.
constexpr Duration kAfterUpgrade{200};

DefinitionRecord record_of(const backend::Definition& definition) {
  DefinitionRecord record{definition.service, definition.env, {}};
  for (const backend::PublicSocket& socket : definition.sockets)
    record.sockets.push_back({socket.name, socket.address, socket.socket->get()});
  return record;
}

std::shared_ptr<const backend::Definition> definition_of(const DefinitionRecord& record) {
  backend::Definition definition{record.service, record.env, {}};
  for (const DefinitionRecord::Socket& socket : record.sockets) {
    definition.sockets.push_back(
        {socket.name, socket.address, std::make_shared<const Descriptor>(socket.fd)});
  }
  return std::make_shared<const backend::Definition>(std::move(definition));
}

}  // namespace

DriverRecord Driver::save() const {
  DriverRecord record;
  record.service = service_;
  record.scaled = scaled_;
  record.state = state_;
  for (const auto& [number, definition] : definitions_) {
    const auto same = std::ranges::find(definitions_, definition, [](const auto& d) { return d.second; });
    auto& saved = record.definitions.emplace_back();
    saved.number = number;
    if (same->first != number) {
      saved.same_as = same->first;
    } else {
      saved.definition = record_of(*definition);
    }
    if (definition == next_definition_) record.next_number = number;
  }
  if (record.next_number == 0 && next_definition_ != nullptr)
    record.next_definition = record_of(*next_definition_);
  for (const auto& [key, slot] : slots_) {
    SlotRecord& place = record.slots.emplace_back();
    place.generation = key.first;
    place.index = key.second;
    if (slot.instance) place.instance = slot.instance->save();
    slot.loads.save(place);
    place.last_end = slot.last_end;
    place.refusal = slot.refusal;
    if (slot.listening != nullptr) place.listening = slot.listening->get();
  }
  record.deferred_ready = deferred_ready_;
  for (const auto& [token, answers] : drains_) record.drains.push_back(token);
  for (const Waiting& waiting : rollover_waiters_) {
    record.waiters.push_back({waiting.who.ticket, waiting.who.until_drained, waiting.drains, waiting.report});
  }
  record.last_report = last_report_;
  return record;
}

void Driver::restore(const DriverRecord& record) {
  service_ = record.service;
  scaled_ = record.scaled;
  state_ = record.state;
  for (const auto& saved : record.definitions) {
    definitions_[saved.number] =
        saved.same_as != 0 ? definitions_.at(saved.same_as) : definition_of(saved.definition);
  }
  if (record.next_number != 0) {
    next_definition_ = definitions_.at(record.next_number);
  } else if (record.next_definition) {
    next_definition_ = definition_of(*record.next_definition);
  }
  for (const SlotRecord& place : record.slots) {
    const Key key{place.generation, place.index};
    Slot& slot = slots_[key];
    slot.loads.restore(place);
    slot.last_end = place.last_end;
    slot.refusal = place.refusal;
    if (place.listening >= 0) slot.listening = std::make_shared<const Descriptor>(place.listening);
    if (!place.instance) continue;
    const auto definition = definitions_.find(place.generation);
    if (definition == definitions_.end()) throw std::runtime_error("an instance has no definition");
    slot.instance = backend::make_instance(context_, definition->second, place.generation, place.index,
                                           events_of(key), slot.listening);
    if (const auto resumed = slot.instance->resume(*place.instance); !resumed)
      throw std::runtime_error(resumed.error().message);
  }
  deferred_ready_ = record.deferred_ready;
  for (const std::uint64_t token : record.drains) drains_[token] = 0;
  for (const RolloverWaiterRecord& waiter : record.waiters) {
    rollover_waiters_.push_back(
        {{waiter.ticket, waiter.until_drained, nullptr}, waiter.drains, waiter.report});
  }
  last_report_ = record.last_report;
}

// What was asked of the data plane and of the steering, and not answered, is asked again: the answer is the
// same, as a generation that has nothing left gets nothing.
void Driver::ask_again() {
  give_route(state_.route);
  const auto open = std::exchange(drains_, {});
  for (const Generation& g : state_.generations) {
    if (open.contains(g.drain)) carry_out(action::Drain{g.number, -1, g.drain});
    for (std::size_t i = 0; i < g.instances.size(); ++i) {
      const std::uint64_t drain = g.instances[i].drain;
      if (open.contains(drain)) carry_out(action::Drain{g.number, static_cast<int>(i), drain});
    }
  }
  if (state_.accepting == Accepting::kStopping) carry_out(action::StopAccepting{});
  if (state_.accepting == Accepting::kNo) data_plane_.stop_accepting(id_, [] {});
  arm_timer(kAfterUpgrade);
}

bool Driver::attach(std::uint64_t ticket, std::function<void(const Report&)> done) {
  const auto waiting =
      std::ranges::find_if(rollover_waiters_, [ticket](const Waiting& w) { return w.who.ticket == ticket; });
  if (waiting == rollover_waiters_.end()) return false;
  waiting->who.done = std::move(done);
  return true;
}

std::vector<std::uint64_t> Driver::tickets() const {
  std::vector<std::uint64_t> all;
  for (const Waiting& waiting : rollover_waiters_) {
    if (waiting.who.ticket != 0) all.push_back(waiting.who.ticket);
  }
  return all;
}

std::shared_ptr<net::EndpointLoad> Driver::load_at(GenerationNumber generation, InstanceIndex index,
                                                   const SocketAddress& address) {
  const auto found = slots_.find({generation, index});
  return found != slots_.end() ? found->second.loads.of(address) : nullptr;
}

}  // namespace relayd::rollover
