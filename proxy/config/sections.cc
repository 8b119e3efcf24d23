#include "proxy/config/sections.h"

#include <array>
#include <cstdint>

#include "proxy/config/keys.h"
#include "proxy/config/loader.h"

// Every key of the file, one line each, innermost sections first. A new key is a member in config.h, a line
// here, and, where its type does not say it all, a line in checks.cc.
namespace relayd::config {

// Declared before the tables that reach them through a member's type.
void read(Reader& reader, const Node& node, std::vector<Service>& services);
void write(Emitter& emitter, std::string_view key, const std::vector<Service>& services);

namespace {

Result<Amount> parse_amount(std::string_view text) {
  if (text.ends_with('%')) {
    const auto percent = parse_percent(text);
    if (!percent) return std::unexpected(percent.error());
    return Amount{*percent, true};
  }
  if (const auto count = parse_count(text)) return Amount{*count, false};
  return fail("expected a number of instances, or a percentage such as 100%, not " + in_quotes(text));
}

std::string format_amount(const Amount& amount) {
  return amount.percent ? format_percent(amount.value) : format_count(amount.value);
}

}  // namespace

template <>
inline constexpr auto kFormat<parse_duration> = format_duration;
template <>
inline constexpr auto kFormat<parse_count> = format_count;
template <>
inline constexpr auto kFormat<parse_percent> = format_percent;
template <>
inline constexpr auto kFormat<parse_amount> = format_amount;
template <>
inline constexpr auto kFormat<parse_mode_bits> = format_mode_bits;
template <>
inline constexpr auto kFormat<parse_threads> = format_threads;
template <>
inline constexpr auto kFormat<parse_signal> = format_signal;

template <>
inline constexpr auto kKeys<Control> = std::to_array<Key<Control>>({
    {"socket", into<&Control::socket>},
    {"mode", parsed<&Control::mode, parse_mode_bits>},
    {"group", into<&Control::group>},
});

inline constexpr auto kAdminKeys = std::to_array<Key<Config>>({
    {"listen", into<&Config::admin_listen>},
});

template <>
inline constexpr auto kKeys<Log> = std::to_array<Key<Log>>({
    {"level", into<&Log::level>},
    {"format", into<&Log::format>},
    {"file", nullable<&Log::file>},
});

template <>
inline constexpr auto kKeys<ProxyProtocolOptions> = std::to_array<Key<ProxyProtocolOptions>>({
    {"accept", into<&ProxyProtocolOptions::accept>},
    {"send", into<&ProxyProtocolOptions::send>},
});

template <>
inline constexpr auto kKeys<ServiceLimits> = std::to_array<Key<ServiceLimits>>({
    {"max_connections", number<&ServiceLimits::max_connections, parse_count>},
    {"connect_timeout", parsed<&ServiceLimits::connect_timeout, parse_duration>},
    {"idle_timeout", parsed<&ServiceLimits::idle_timeout, parse_duration>},
});

inline constexpr auto kBackendLimitsKeys = std::to_array<Key<Backend>>({
    {"nofile", number<&Backend::nofile, parse_count>},
});

template <>
inline constexpr auto kKeys<RestartDelay> = std::to_array<Key<RestartDelay>>({
    {"min", parsed<&RestartDelay::min, parse_duration>},
    {"max", parsed<&RestartDelay::max, parse_duration>},
});

template <>
inline constexpr auto kKeys<Backend> = std::to_array<Key<Backend>>({
    {"command", into<&Backend::command>},
    {"address", into<&Backend::address>},
    {"steering", into<&Backend::steering>},
    {"targets", into<&Backend::targets>},
    {"instances", number<&Backend::instances, parse_count>},
    {"balance", into<&Backend::balance>},
    {"directory", into<&Backend::directory>},
    {"env", into<&Backend::env>},
    {"env_file", into<&Backend::env_file>},
    {"user", into<&Backend::user>},
    {"group", into<&Backend::group>},
    {"limits", keys_of_same<Backend, kBackendLimitsKeys>},
    {"stop_signal", parsed<&Backend::stop_signal, parse_signal>},
    {"stop", into<&Backend::stop>},
    {"kill_timeout", parsed<&Backend::kill_timeout, parse_duration>},
    {"restart_delay", into<&Backend::restart_delay>},
});

template <>
inline constexpr auto kKeys<Health> = std::to_array<Key<Health>>({
    {"check", into<&Health::check>},
    {"path", into<&Health::path>},
    {"command", into<&Health::command>},
    {"interval", parsed<&Health::interval, parse_duration>},
    {"timeout", parsed<&Health::timeout, parse_duration>},
    {"ready_timeout", parsed<&Health::ready_timeout, parse_duration>},
});

template <>
inline constexpr auto kKeys<Rollover> = std::to_array<Key<Rollover>>({
    {"mode", into<&Rollover::mode>},
    {"graceful_timeout", parsed<&Rollover::graceful_timeout, parse_duration>},
    {"tunnel_timeout", parsed<&Rollover::tunnel_timeout, parse_duration>},
    {"close_spread", parsed<&Rollover::close_spread, parse_duration>},
    {"surge", parsed<&Rollover::surge, parse_amount>},
    {"canary", parsed<&Rollover::canary, parse_percent>},
    {"monitor", parsed<&Rollover::monitor, parse_duration>},
    {"failure_action", into<&Rollover::failure_action>},
    {"max_old_generations", number<&Rollover::max_old_generations, parse_count>},
});

template <>
inline constexpr auto kKeys<Hold> = std::to_array<Key<Hold>>({
    {"max_connections", number<&Hold::max_connections, parse_count>},
    {"timeout", parsed<&Hold::timeout, parse_duration>},
    {"release_rate", number<&Hold::release_rate, parse_count>},
});

template <>
inline constexpr auto kKeys<Service> = std::to_array<Key<Service>>({
    {"listen", into<&Service::listen>},
    {"protocol", into<&Service::protocol>},
    {"proxy_protocol", into<&Service::proxy_protocol>},
    {"forwarded_headers", into<&Service::forwarded_headers>},
    {"transparent", into<&Service::transparent>},
    {"limits", into<&Service::limits>},
    {"backend", into<&Service::backend>},
    {"health", into<&Service::health>},
    {"rollover", into<&Service::rollover>},
    {"hold", into<&Service::hold>},
});

template <>
inline constexpr auto kKeys<Config> = std::to_array<Key<Config>>({
    {"control", into<&Config::control>},
    {"admin", keys_of_same<Config, kAdminKeys>},
    {"log", into<&Config::log>},
    {"pid_file", into<&Config::pid_file>},
    {"threads", parsed<&Config::threads, parse_threads>},
    {"services", into<&Config::services>},
});

void read(Reader& reader, const Node& node, std::vector<Service>& services) {
  if (node.kind != Node::Kind::kMap) return reader.wrong_kind(node, "a map of services by name");
  reader.each_key(node, [&](const Node& key, const Node& entry) {
    reader.inside(key, entry, [&] {
      Service& service = services.emplace_back();
      service.name = key.text;
      read(reader, entry, service);
    });
  });
}

void write(Emitter& emitter, std::string_view key, const std::vector<Service>& services) {
  emitter.section(key, [&] {
    for (const Service& service : services) write(emitter, as_text(service.name), service);
  });
}

void read_config(Reader& reader, const Node& root, Config& config) { read(reader, root, config); }

void write_config(Emitter& emitter, const Config& config) {
  write_section<Config>(emitter, kKeys<Config>, config);
}

std::string sections_with(std::string_view key) {
  std::vector<std::string_view> found;
  const auto look = [&](std::string_view section, const auto& keys) {
    for (const auto& candidate : keys) {
      if (candidate.name == key) found.push_back(section);
    }
  };
  look("the top level", kKeys<Config>);
  look("control", kKeys<Control>);
  look("log", kKeys<Log>);
  look("services.NAME", kKeys<Service>);
  look("services.NAME.limits", kKeys<ServiceLimits>);
  look("services.NAME.backend", kKeys<Backend>);
  look("services.NAME.backend.limits", kBackendLimitsKeys);
  look("services.NAME.health", kKeys<Health>);
  look("services.NAME.rollover", kKeys<Rollover>);
  look("services.NAME.hold", kKeys<Hold>);
  return list_of(found);
}

}  // namespace relayd::config
