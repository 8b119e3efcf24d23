#pragma once

#include <array>
#include <optional>
#include <string_view>
#include <vector>

#include "proxy/config/config.h"

// The names of every enumeration of the configuration: one list each, for reading, writing and messages
// alike.
namespace relayd::config {

template <typename E>
struct Name {
  E value;
  const char* text;
};

template <typename E>
inline constexpr bool kNames = false;  // specialised below; a missing list fails to compile

template <>
inline constexpr auto kNames<Protocol> = std::to_array<Name<Protocol>>({{Protocol::kAuto, "auto"},
                                                                        {Protocol::kHttp, "http"},
                                                                        {Protocol::kTcp, "tcp"}});
template <>
inline constexpr auto kNames<ProxyProtocol> = std::to_array<Name<ProxyProtocol>>(
    {{ProxyProtocol::kOff, "off"}, {ProxyProtocol::kV1, "v1"}, {ProxyProtocol::kV2, "v2"}});
template <>
inline constexpr auto kNames<AddressKind> =
    std::to_array<Name<AddressKind>>({{AddressKind::kPort, "port"},
                                      {AddressKind::kSocket, "socket"},
                                      {AddressKind::kActivation, "activation"},
                                      {AddressKind::kHandoff, "handoff"}});
template <>
inline constexpr auto kNames<Steering> = std::to_array<Name<Steering>>({{Steering::kOff, "off"},
                                                                        {Steering::kOn, "on"},
                                                                        {Steering::kAuto, "auto"}});
template <>
inline constexpr auto kNames<Balance> = std::to_array<Name<Balance>>({{Balance::kLeastConnections,
                                                                       "least_connections"},
                                                                      {Balance::kRoundRobin, "round_robin"},
                                                                      {Balance::kRandom, "random"}});
template <>
inline constexpr auto kNames<StopWhen> =
    std::to_array<Name<StopWhen>>({{StopWhen::kAfterDrain, "after_drain"}, {StopWhen::kAtOnce, "at_once"}});
template <>
inline constexpr auto kNames<Check> = std::to_array<Name<Check>>({{Check::kAuto, "auto"},
                                                                  {Check::kTcp, "tcp"},
                                                                  {Check::kHttp, "http"},
                                                                  {Check::kNotify, "notify"},
                                                                  {Check::kCommand, "command"},
                                                                  {Check::kNone, "none"}});
template <>
inline constexpr auto kNames<Mode> =
    std::to_array<Name<Mode>>({{Mode::kPhased, "phased"}, {Mode::kHot, "hot"}, {Mode::kRestart, "restart"}});
template <>
inline constexpr auto kNames<FailureAction> =
    std::to_array<Name<FailureAction>>({{FailureAction::kRollback, "rollback"},
                                        {FailureAction::kPause, "pause"},
                                        {FailureAction::kContinue, "continue"}});
template <>
inline constexpr auto kNames<log::Level> = std::to_array<Name<log::Level>>({{log::Level::kDebug, "debug"},
                                                                            {log::Level::kInfo, "info"},
                                                                            {log::Level::kWarn, "warn"},
                                                                            {log::Level::kError, "error"}});
template <>
inline constexpr auto kNames<log::Format> = std::to_array<Name<log::Format>>({{log::Format::kText, "text"},
                                                                              {log::Format::kJson, "json"}});

template <typename E>
std::optional<E> value_of(std::string_view text) {
  for (const Name<E>& name : kNames<E>) {
    if (name.text == text) return name.value;
  }
  return std::nullopt;
}

template <typename E>
const char* name_of(E value) {
  for (const Name<E>& name : kNames<E>) {
    if (name.value == value) return name.text;
  }
  return "?";
}

template <typename E>
std::vector<std::string_view> names_of() {
  std::vector<std::string_view> names;
  for (const Name<E>& name : kNames<E>) names.emplace_back(name.text);
  return names;
}

}  // namespace relayd::config
