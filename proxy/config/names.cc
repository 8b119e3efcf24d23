#include "proxy/config/names.h"

namespace relayd::config {

const char* to_string(Protocol value) { return name_of(value); }
const char* to_string(ProxyProtocol value) { return name_of(value); }
const char* to_string(AddressKind value) { return name_of(value); }
const char* to_string(Steering value) { return name_of(value); }
const char* to_string(Balance value) { return name_of(value); }
const char* to_string(StopWhen value) { return name_of(value); }
const char* to_string(Check value) { return name_of(value); }
const char* to_string(Mode value) { return name_of(value); }
const char* to_string(FailureAction value) { return name_of(value); }
const char* to_string(log::Level value) { return name_of(value); }
const char* to_string(log::Format value) { return name_of(value); }

std::optional<Protocol> protocol_from(std::string_view text) { return value_of<Protocol>(text); }
std::optional<ProxyProtocol> proxy_protocol_from(std::string_view text) {
  return value_of<ProxyProtocol>(text);
}
std::optional<AddressKind> address_kind_from(std::string_view text) { return value_of<AddressKind>(text); }
std::optional<Steering> steering_from(std::string_view text) { return value_of<Steering>(text); }
std::optional<Balance> balance_from(std::string_view text) { return value_of<Balance>(text); }
std::optional<StopWhen> stop_when_from(std::string_view text) { return value_of<StopWhen>(text); }
std::optional<Check> check_from(std::string_view text) { return value_of<Check>(text); }
std::optional<Mode> mode_from(std::string_view text) { return value_of<Mode>(text); }
std::optional<FailureAction> failure_action_from(std::string_view text) {
  return value_of<FailureAction>(text);
}
std::optional<log::Level> log_level_from(std::string_view text) { return value_of<log::Level>(text); }
std::optional<log::Format> log_format_from(std::string_view text) { return value_of<log::Format>(text); }

}  // namespace relayd::config
