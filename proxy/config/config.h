#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "proxy/base/log.h"
#include "proxy/base/time.h"

// The configuration as plain data, with its defaults: one struct per section of the file, one member per key.
// It holds the whole contract; what is not built yet is refused by the checks (config/checks.h), never
// accepted and ignored.
namespace relayd::config {

using std::chrono_literals::operator""ms;
using std::chrono_literals::operator""s;

struct Control {
  std::string socket;  // empty: default_control_socket() of base/runtime_directory.h
  unsigned mode = 0600;
  std::string group;  // empty: none
  bool operator==(const Control&) const = default;
};

struct Log {
  log::Level level = log::Level::kInfo;
  log::Format format = log::Format::kText;
  std::string file;  // empty: standard error
  bool operator==(const Log&) const = default;
};

enum class Protocol { kAuto, kHttp, kTcp };
enum class ProxyProtocol { kOff, kV1, kV2 };
enum class AddressKind { kPort, kSocket, kActivation, kHandoff };
enum class Steering { kOff, kOn, kAuto };
enum class Balance { kLeastConnections, kRoundRobin, kRandom };
enum class StopWhen { kAfterDrain, kAtOnce };
enum class Check { kAuto, kTcp, kHttp, kNotify, kCommand, kNone };
enum class Mode { kPhased, kHot, kRestart };
enum class FailureAction { kRollback, kPause, kContinue };

// As the file writes them: "phased", "least_connections". The list of each enumeration stands in names.h.
const char* to_string(Protocol value);
const char* to_string(ProxyProtocol value);
const char* to_string(AddressKind value);
const char* to_string(Steering value);
const char* to_string(Balance value);
const char* to_string(StopWhen value);
const char* to_string(Check value);
const char* to_string(Mode value);
const char* to_string(FailureAction value);
const char* to_string(log::Level value);
const char* to_string(log::Format value);

// The value of a name exactly as the file writes it; empty for any other.
std::optional<Protocol> protocol_from(std::string_view text);
std::optional<ProxyProtocol> proxy_protocol_from(std::string_view text);
std::optional<AddressKind> address_kind_from(std::string_view text);
std::optional<Steering> steering_from(std::string_view text);
std::optional<Balance> balance_from(std::string_view text);
std::optional<StopWhen> stop_when_from(std::string_view text);
std::optional<Check> check_from(std::string_view text);
std::optional<Mode> mode_from(std::string_view text);
std::optional<FailureAction> failure_action_from(std::string_view text);
std::optional<log::Level> log_level_from(std::string_view text);
std::optional<log::Format> log_format_from(std::string_view text);

// A count, or a share of another count in percent.
struct Amount {
  unsigned value = 100;
  bool percent = true;
  bool operator==(const Amount&) const = default;
};

struct ProxyProtocolOptions {
  bool accept = false;
  ProxyProtocol send = ProxyProtocol::kOff;
  bool operator==(const ProxyProtocolOptions&) const = default;
};

struct ServiceLimits {
  unsigned max_connections = 10000;
  Duration connect_timeout = 5s;
  Duration idle_timeout = 0s;  // 0: none
  bool operator==(const ServiceLimits&) const = default;
};

struct RestartDelay {
  Duration min = 100ms;
  Duration max = 30s;
  bool operator==(const RestartDelay&) const = default;
};

inline constexpr unsigned kMostInstances = 1000;  // of a service

struct Backend {
  std::vector<std::string> command;
  AddressKind address = AddressKind::kPort;
  Steering steering = Steering::kOff;
  std::vector<std::string> targets;
  unsigned instances = 1;
  Balance balance = Balance::kLeastConnections;
  std::string directory;  // empty: relayd's own
  std::map<std::string, std::string> env;
  std::string env_file;  // read again at every rollover
  std::string user;
  std::string group;
  std::optional<std::uint64_t> nofile;  // limits.nofile; none: what relayd itself was started with
  int stop_signal = 15;
  StopWhen stop = StopWhen::kAfterDrain;
  Duration kill_timeout = 10s;  // from stop_signal to KILL of the whole process group
  RestartDelay restart_delay;
  bool operator==(const Backend&) const = default;
};

struct Health {
  Check check = Check::kAuto;
  std::string path;                  // http; empty: none given
  std::vector<std::string> command;  // command
  Duration interval = 1s;            // 0: only until ready
  Duration timeout = 5s;
  Duration ready_timeout = 30s;
  bool operator==(const Health&) const = default;
};

struct Rollover {
  Mode mode = Mode::kPhased;
  Duration graceful_timeout = 30s;
  std::optional<Duration> tunnel_timeout;  // none: graceful_timeout
  Duration close_spread = 0s;
  Amount surge;
  unsigned canary = 0;  // percent
  Duration monitor = 0s;
  FailureAction failure_action = FailureAction::kRollback;
  unsigned max_old_generations = 2;
  bool operator==(const Rollover&) const = default;
};

struct Hold {
  unsigned max_connections = 4096;
  Duration timeout = 30s;
  unsigned release_rate = 0;  // connections a second; 0: as fast as accepted
  bool operator==(const Hold&) const = default;
};

struct Service {
  std::string name;
  // "host:port", ":port" (every address of both families), "[v6]:port", "unix:/path", "fd:NAME".
  std::vector<std::string> listen;
  Protocol protocol = Protocol::kAuto;
  ProxyProtocolOptions proxy_protocol;
  bool forwarded_headers = false;
  bool transparent = false;
  ServiceLimits limits;
  Backend backend;
  Health health;
  Rollover rollover;
  Hold hold;
  bool operator==(const Service&) const = default;
};

struct Config {
  Control control;
  std::string admin_listen;  // empty: off
  Log log;
  std::string pid_file;
  unsigned threads = 0;           // 0: auto, the CPUs this process may use
  std::vector<Service> services;  // in the order of the file; names are unique
  bool operator==(const Config&) const = default;
};

}  // namespace relayd::config
