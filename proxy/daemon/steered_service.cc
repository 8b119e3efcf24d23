#include "proxy/daemon/steered_service.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>

namespace relayd {
namespace {

using namespace std::chrono_literals;

constexpr Duration kBusyPace = 100ms;  // while something drains or is emptied
constexpr Duration kIdlePace = 500ms;  // how soon a listener that its app has closed is noticed
constexpr int kCountAtMost = 10;       // a count is good for so many times as long as it took

// A passed IPv6 socket for every address may take IPv4 too (systemd's ListenStream=80; ipv6(7), IPV6_V6ONLY).
bool takes_ipv4_too(const net::Listener& listener) {
  int only = 1;
  socklen_t size = sizeof only;
  return ::getsockopt(listener.socket.get(), IPPROTO_IPV6, IPV6_V6ONLY, &only, &size) == 0 && only == 0;
}

std::vector<SocketAddress> addresses_of(const std::vector<const net::Listener*>& listeners) {
  std::vector<SocketAddress> addresses;
  for (const net::Listener* listener : listeners) {
    const SocketAddress& address = listener->address;
    if (address.is_unix()) continue;
    addresses.push_back(address);
    const std::string_view ip = address.ip_bytes();
    const bool any = std::ranges::all_of(ip, [](char byte) { return byte == 0; });
    if (address.family() == AF_INET6 && any && takes_ipv4_too(*listener)) {
      addresses.push_back(SocketAddress::from_ip_bytes(std::string(sizeof(in_addr), '\0'), address.port()));
    }
  }
  return addresses;
}

}  // namespace

Result<void> SteeringProgram::attach() {
  if (switch_ != nullptr) return {};
  auto sockets = steering::SocketList::open();
  if (!sockets) return std::unexpected(sockets.error());
  auto attached = steering::Switch::attach();
  if (!attached) return std::unexpected(attached.error());
  sockets_.emplace(std::move(*sockets));
  switch_ = std::move(*attached);
  return {};
}

SteeredService::SteeredService(Loop& loop, SteeringProgram& program, net::DataPlane& data_plane,
                               net::ServiceId id, Happened happened)
    : program_(program),
      data_plane_(data_plane),
      id_(id),
      happened_(std::move(happened)),
      timer_(loop),
      orphans_(data_plane, id) {}

SteeredService::~SteeredService() {
  if (program_.attached()) orphans_.give_up(program_.get());
  if (service_) program_.get().remove_service(*service_);
}

void SteeredService::set_addresses(const std::vector<const net::Listener*>& listeners) {
  std::vector<SocketAddress> wanted;
  if (!stopped_) wanted = addresses_of(listeners);
  if (service_) {
    for (const SocketAddress& address : addresses_) {
      if (std::ranges::find(wanted, address) == wanted.end())
        program_.get().remove_address(*service_, address);
    }
    for (const SocketAddress& address : wanted) {
      if (const auto added = program_.get().add_address(*service_, address); !added)
        cannot(added.error().message, {0, 0});
    }
  }
  addresses_ = std::move(wanted);
  for (const SocketAddress& address : addresses_) {
    if (std::ranges::find(ports_, address.port()) == ports_.end()) ports_.push_back(address.port());
  }
}

Result<void> SteeredService::instance_ready(rollover::GenerationNumber generation,
                                            rollover::InstanceIndex instance, pid_t group,
                                            const SocketAddress& address, config::Steering wanted) {
  const Key key{generation, instance};
  asked_ = wanted != config::Steering::kOff;
  if (!asked_) return {};
  const auto refuse = [&](const Error& error) -> Result<void> {
    if (wanted == config::Steering::kOn) return std::unexpected(error);
    cannot(error.message, key);
    return {};
  };
  if (const auto attached = program_.attach(); !attached) return refuse(attached.error());
  auto found = steering::find_listeners(program_.sockets(), group, address.port());
  if (!found) {
    instance_ended(generation, instance, /*socket_stays=*/false);  // who waited for this process
    const bool later = found.error().code == ENOENT && wanted == config::Steering::kAuto;
    if (later) processes_[key] = {.group = group, .address = address, .listeners = {}};  // looked at again
    return refuse(found.error());
  }
  processes_[key] = {.group = group, .address = address, .listeners = std::move(*found)};
  return {};
}

void SteeredService::steer(const std::vector<rollover::RouteEntry>& route) {
  route_.clear();
  for (const rollover::RouteEntry& entry : route) route_.emplace_back(entry.generation, entry.instance);
  // A drain that is taken back.
  std::vector<std::function<void()>> over;
  std::erase_if(drains_, [&](Drain& drain) {
    const auto named = [&](const Key& key) {
      return key.first == drain.generation && (drain.instance < 0 || key.second == drain.instance);
    };
    if (std::ranges::none_of(route_, named)) return false;
    over.push_back(std::move(drain.done));
    return true;
  });
  apply();
  for (const auto& done : over) done();
}

// All of the route or nothing: whoever cannot be steered to would get no connection at all.
void SteeredService::apply() {
  std::vector<int> sockets;
  bool whole = !route_.empty() && !addresses_.empty() && !stopped_;
  for (const Key& key : route_) {
    const auto found = processes_.find(key);
    if (found == processes_.end() || found->second.listeners.empty()) whole = false;
    if (!whole) break;
    for (const auto& listener : found->second.listeners) sockets.push_back(listener.socket.get());
  }
  if (!whole) sockets.clear();
  const bool before = steered_;
  steered_ = false;
  if (const auto done = switch_to(sockets); !done) {
    cannot(done.error().message, {0, 0});
  } else {
    steered_ = whole;
  }
  if (steered_ && !before && !why_not_.empty()) why_not_.clear();
  if (steered_ && !before) {
    happened_({"steered",
               route_.front().first,
               -1,
               "new connections go straight to generation " + std::to_string(route_.front().first),
               {}});
  }
  arm();
}

Result<void> SteeredService::switch_to(const std::vector<int>& sockets) {
  if (!service_) {
    if (sockets.empty()) return {};
    auto added = program_.get().add_service();
    if (!added) return std::unexpected(added.error());
    service_ = *added;
    for (const SocketAddress& address : addresses_) {
      if (auto known = program_.get().add_address(*service_, address); !known) return known;
    }
  }
  auto done = program_.get().steer(*service_, sockets);
  if (!done) (void)program_.get().steer(*service_, {});
  return done;
}

void SteeredService::cannot(const std::string& why, Key about) {
  if (why == why_not_) return;
  why_not_ = why;
  happened_({"not_steered",
             about.first,
             about.first == 0 ? -1 : about.second,
             "new connections are forwarded, not steered: " + why,
             {}});
}

// Told once, until there is something else to tell.
void SteeredService::warn(const std::string& what) {
  if (what == warned_of_) return;
  warned_of_ = what;
  happened_({"warning", 0, -1, what, {}});
}

bool SteeredService::drain(rollover::GenerationNumber generation, int instance, std::function<void()> done) {
  std::vector<pid_t> groups;
  std::vector<steering::DrainCount::Listener> listeners;
  for (const auto& [key, process] : processes_) {
    if (key.first != generation || (instance >= 0 && key.second != instance)) continue;
    if (process.group == 0) continue;
    groups.push_back(process.group);
    for (const auto& one : process.listeners)
      listeners.push_back({.inode = one.inode, .port = one.address.port(), .family = one.family});
  }
  if (groups.empty()) return false;
  drains_.push_back({.generation = generation,
                     .instance = instance,
                     .count = steering::DrainCount(std::move(groups), ports_, std::move(listeners)),
                     .next_look = monotonic_now(),
                     .done = std::move(done)});
  arm();
  return true;
}

void SteeredService::instance_ended(rollover::GenerationNumber generation, rollover::InstanceIndex instance,
                                    bool socket_stays) {
  const Key key{generation, instance};
  const auto found = processes_.find(key);
  if (found == processes_.end()) return;
  counts_.erase(key);
  if (socket_stays) {
    found->second.group = 0;
    if (std::erase(route_, key) != 0) apply();
    return;
  }
  Process process = std::move(found->second);
  processes_.erase(found);
  if (std::erase(route_, key) != 0) apply();
  orphan(process.address, std::move(process.listeners));
}

void SteeredService::orphan(const SocketAddress& address, std::vector<steering::FoundListener> sockets) {
  if (stopped_) return;  // nobody is left to be given to
  orphans_.take(program_.get(), address, std::move(sockets));
  arm();
}

void SteeredService::stop() {
  stopped_ = true;
  apply();
  set_addresses({});
}

std::string SteeredService::state() const {
  if (!asked_) return "off";
  if (steered_) return "steered";
  if (!why_not_.empty()) return "forwarded: " + why_not_;
  return route_.empty() ? "held" : "off";
}

// ---- What is looked at again and again

void SteeredService::arm() {
  if (!drains_.empty() || !orphans_.empty()) {
    if (!timer_.active() || timer_is_idle_) {
      timer_is_idle_ = false;
      timer_.start(
          Duration::zero(), [this] { tick(); }, kBusyPace);
    }
  } else if (!route_.empty() && !processes_.empty()) {
    if (!timer_.active() || !timer_is_idle_) {
      timer_is_idle_ = true;
      timer_.start(
          kIdlePace, [this] { tick(); }, kIdlePace);
    }
  } else {
    timer_.stop();
  }
}

void SteeredService::tick() {
  watch_listeners();
  if (!orphans_.empty()) orphans_.look(program_.get());
  look_at_drains();  // last: its callbacks carry out the next steps of the rollover
}

void SteeredService::look_at_drains() {
  std::vector<std::function<void()>> over;
  const TimePoint now = monotonic_now();
  for (auto drain = drains_.begin(); drain != drains_.end();) {
    if (drain->next_look > now) {
      ++drain;
      continue;
    }
    const auto left = drain->count.look(program_.sockets());
    const auto cost = std::chrono::duration_cast<Duration>(drain->count.cost());
    drain->next_look = monotonic_now() + std::max(kBusyPace / 2, cost * kCountAtMost);
    if (!left) {
      warn("the connections that were steered to generation " + std::to_string(drain->generation) +
           " cannot be counted, and it drains until graceful_timeout: " + left.error().message);
    }
    if (!left || !left->drained) {
      ++drain;
      continue;
    }
    over.push_back(std::move(drain->done));
    drain = drains_.erase(drain);
  }
  arm();
  for (const auto& done : over) done();
}

// An app may close its listener while it runs, or open it anew; connections would wait in the duplicate for
// ever.
void SteeredService::watch_listeners() {
  std::vector<std::pair<SocketAddress, std::vector<steering::FoundListener>>> gone;
  bool changed = false;
  for (auto& [key, process] : processes_) {
    if (process.group == 0) continue;
    if (!process.listeners.empty() && std::ranges::all_of(process.listeners, steering::is_held)) continue;
    const bool serves = std::ranges::find(route_, key) != route_.end();
    if (process.listeners.empty() && !serves) continue;
    const std::size_t before = process.listeners.size();
    auto left = refresh(process);
    if (before == 0 && process.listeners.empty()) continue;
    changed = changed || serves;
    if (serves && process.listeners.empty())
      cannot("instance " + std::to_string(key.second) + " does not listen any more", key);
    gone.emplace_back(process.listeners.empty() ? process.address : SocketAddress(), std::move(left));
  }
  if (changed) apply();
  for (auto& [address, sockets] : gone) orphan(address, std::move(sockets));  // nothing goes there any more
}

// Those that it does not have any more. Whoever cannot be looked at just now (no descriptors are left, say)
// is taken to have what it had.
std::vector<steering::FoundListener> SteeredService::refresh(Process& process) {
  auto found = steering::find_listeners(program_.sockets(), process.group, process.address.port());
  if (!found && found.error().code != ENOENT) {
    warn("whether an instance still listens cannot be seen: " + found.error().message);
    return {};
  }
  std::vector<steering::FoundListener> now;
  if (found) now = std::move(*found);
  std::vector<steering::FoundListener> before = std::exchange(process.listeners, std::move(now));
  std::erase_if(before, [&](const auto& old) {
    return std::ranges::any_of(process.listeners, [&](const auto& kept) { return kept.inode == old.inode; });
  });
  return before;
}

// ---- Counts

std::vector<steering::SteeredConnection> SteeredService::steered_now() {
  std::vector<pid_t> groups;
  for (const auto& [key, process] : processes_) {
    if (process.group != 0) groups.push_back(process.group);
  }
  if (groups.empty() || ports_.empty()) return {};
  auto found = steering::steered_connections(program_.sockets(), groups, ports_);
  if (!found) {
    warn("steered connections cannot be counted: " + found.error().message);
    return {};
  }
  return std::move(*found);
}

const std::pair<const SteeredService::Key, SteeredService::Process>* SteeredService::process_of(
    pid_t group) const {
  const auto found =
      std::ranges::find_if(processes_, [&](const auto& entry) { return entry.second.group == group; });
  return found == processes_.end() ? nullptr : &*found;
}

void SteeredService::count_connections() {
  const TimePoint before = monotonic_now();
  if (before < counts_good_until_) return;
  counts_.clear();
  for (const auto& connection : steered_now()) {
    if (const auto* entry = process_of(connection.group)) ++counts_[entry->first];
  }
  const TimePoint after = monotonic_now();
  counts_good_until_ = after + (after - before) * kCountAtMost;
}

std::uint64_t SteeredService::connections(rollover::GenerationNumber generation, int instance) {
  if (processes_.empty()) return 0;
  count_connections();
  std::uint64_t sum = 0;
  for (const auto& [key, count] : counts_) {
    if (key.first == generation && (instance < 0 || key.second == instance)) sum += count;
  }
  return sum;
}

std::vector<SteeredService::Connection> SteeredService::list(
    std::optional<rollover::GenerationNumber> generation, std::size_t limit) {
  std::vector<Connection> all;
  for (const auto& connection : steered_now()) {
    if (all.size() == limit) break;
    const auto* entry = process_of(connection.group);
    if (entry == nullptr || (generation && entry->first.first != *generation)) continue;
    all.push_back({.client = connection.peer,
                   .generation = entry->first.first,
                   .instance = entry->first.second,
                   .half_closed = connection.state != TCP_ESTABLISHED});
  }
  return all;
}

}  // namespace relayd
