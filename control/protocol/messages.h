#pragma once

#include <cstdint>
#include <expected>
#include <map>
#include <optional>
#include <string>
#include <vector>

// The messages of the control socket as plain data; protocol/json.h writes and reads them. PROTOCOL.md
// describes them for people. Keys are stable: they are added, never renamed.
namespace relayd::control {

// JSON-RPC 2.0 error codes: the standard's own, and relayd's from -32000 down.
enum class ErrorCode : int {
  kParseError = -32700,
  kInvalidRequest = -32600,
  kMethodNotFound = -32601,
  kInvalidParams = -32602,
  kFailed = -32000,         // relayctl exits 1
  kBusy = -32001,           // another rollover is in progress: exits 4
  kNotPermitted = -32002,   // exits 6
  kNoSuchService = -32003,  // exits 2
  kNotBuilt = -32004,       // promised by the contract, not in this version: exits 2
};

struct Failure {
  ErrorCode code = ErrorCode::kFailed;
  std::string message;
};
template <typename T>
using Outcome = std::expected<T, Failure>;

struct Done {
  std::string message;  // for people; may be empty
};

struct InstanceStatus {
  unsigned index = 0;
  std::string state;     // starting, ready, unhealthy, waiting (for a restart), stopping, gone
  std::int64_t pid = 0;  // 0: no process
  std::string address;
  unsigned restarts = 0;
  std::uint64_t connections = 0;  // now
  std::uint64_t connections_total = 0;
  std::string note;            // last check's error, or STATUS= of the app
  std::uint64_t requests = 0;  // HTTP: that it has answered
  std::string target = {};     // as it was named, where somebody else runs it; empty: a process of relayd's
  std::vector<std::string> addresses = {};  // where it takes connections
};

struct GenerationStatus {
  std::uint32_t number = 0;
  std::string state;  // starting, serving, draining, stopping
  std::int64_t age_ms = 0;
  std::uint64_t connections = 0;
  std::optional<std::int64_t> cut_in_ms;    // draining: until what is left is closed
  std::optional<std::int64_t> ready_in_ms;  // starting: until ready_timeout
  std::vector<InstanceStatus> instances;
  std::uint64_t requests = 0;  // HTTP: the sum of its instances
};

struct LastRollover {
  std::string mode;
  std::string result;  // done, failed, aborted
  std::string reason;  // why it failed
  std::uint32_t from = 0;
  std::uint32_t to = 0;
  std::int64_t duration_ms = 0;
  std::int64_t ended_unix_ms = 0;
};

struct ServiceStatus {
  std::string name;
  std::string phase;  // starting, serving, rolling over (phased|hot|restart): see PROTOCOL.md
  std::string mode;   // the configured mode
  bool holding = false;
  // Who carries the clients' bytes: "relayd"; "app": it accepts from the public sockets itself (handoff), so
  // that relayd does not see its connections: their counts are 0 and mean nothing.
  std::string data_path = "relayd";
  std::vector<std::string> listen;
  std::uint32_t generation = 0;               // the serving one; 0: none
  std::vector<GenerationStatus> generations;  // newest first
  unsigned instances = 0;                     // wanted
  std::optional<std::string> rollover;        // mode of the one in progress
  std::optional<std::int64_t> rollover_ms;    // for how long
  std::optional<LastRollover> last_rollover;
  std::uint64_t accepted = 0, active = 0, held = 0, held_total = 0, hold_timeouts = 0, connect_failures = 0,
                cut = 0;
  std::uint64_t bytes_in = 0, bytes_out = 0;
  // Connections that went past relayd to an instance and stand; whether new ones do: see PROTOCOL.md.
  std::uint64_t steered = 0;
  std::string steering;
  std::uint64_t proxy_refused = 0;  // clients closed for want of a valid PROXY header (proxy_protocol.accept)
  // HTTP: requests that an instance answered; clients whose next request went to another generation; requests
  // sent to a second instance; those answered by relayd itself (4xx, 5xx).
  std::uint64_t requests = 0, crossings = 0, sent_again = 0, answered = 0;
};

struct StatusReport {
  std::string version;
  std::int64_t pid = 0;
  std::int64_t uptime_ms = 0;
  unsigned threads = 0;
  std::string config_file;
  std::vector<ServiceStatus> services;
  unsigned upgrades = 0;  // of this process, since it was started
};

struct RolloverResult {
  std::string service;
  std::string mode;
  std::string result;  // done, failed, aborted, planned (--dry-run)
  std::string reason;
  std::uint32_t from = 0;
  std::uint32_t to = 0;
  std::int64_t duration_ms = 0;
  bool drained = false;
  std::vector<std::string> plan;  // --dry-run: what would be done, in order
};

struct ReloadResult {
  std::vector<std::string> rolled_over;  // services
  std::vector<std::string> added;
  std::vector<std::string> removed;
  std::vector<std::string> adjusted;  // limits and the like, changed without a rollover
  std::vector<std::string> unchanged;
  std::vector<std::string> needs_restart;  // keys that take effect only when relayd itself starts anew
};

// relayd runs another executable now, in the same process.
struct UpgradeResult {
  std::string from_version;
  std::string to_version;
  std::string binary;  // the executable that runs now
  std::int64_t pid = 0;
  std::uint64_t connections = 0;  // of clients, kept
  std::int64_t silence_ms = 0;    // for how long nothing was relayed
};

struct ConnectionEntry {
  std::string service;
  std::uint64_t id = 0;
  std::string client;
  std::uint32_t generation = 0;
  unsigned instance = 0;
  std::string state;
  std::int64_t age_ms = 0;
  std::int64_t idle_ms = 0;
  std::uint64_t bytes_in = 0;
  std::uint64_t bytes_out = 0;
};

struct Event {
  std::uint64_t sequence = 0;
  std::int64_t unix_ms = 0;
  std::string service;  // empty: relayd itself
  std::string type;  // "generation_ready", "switched", "rollover_failed" …: the list stands in PROTOCOL.md
  std::uint32_t generation = 0;  // 0: none
  std::optional<unsigned> instance;
  std::string message;  // one line for people
  std::map<std::string, std::string> details;
};

}  // namespace relayd::control
