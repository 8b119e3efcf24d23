#pragma once

#include <sys/types.h>

#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "control/protocol/messages.h"
#include "control/server/record.h"
#include "proxy/backend/record.h"
#include "proxy/base/error.h"
#include "proxy/base/socket_file.h"
#include "proxy/config/config.h"
#include "proxy/net/record.h"
#include "proxy/rollover/record.h"
#include "proxy/steering/record.h"

// All that one image of relayd leaves to the next one that takes its place in the process (exec): plain data.
// Descriptors are numbers, which stay open; -1: none.
namespace relayd::upgrade {

// The version of what is written where the reader knows it, and the one before, which is read too, and
// written for a relayd that knows no other: so that there is a way back to the release before.
inline constexpr std::uint32_t kVersion = 3;
inline constexpr std::uint32_t kOldestVersion = 2;

struct ListenerRecord {
  std::string name;
  SocketAddress address;
  int socket = -1;
  std::optional<FileIdentity> file;
  bool shared = false;
};

struct SteeredRecord {
  using Key = std::pair<rollover::GenerationNumber, rollover::InstanceIndex>;
  struct Process {
    Key key;
    pid_t group = 0;
    SocketAddress address;
    std::vector<steering::ListenerRecord> listeners;
  };
  struct Orphan {
    SocketAddress address;
    std::vector<steering::ListenerRecord> sockets;
    TimePoint until{};
  };
  std::vector<SocketAddress> addresses;
  std::vector<std::uint16_t> ports;
  std::optional<std::uint32_t> service;  // in the switch
  std::vector<Process> processes;
  std::vector<Key> route;
  bool asked = false;
  bool steered = false;
  bool stopped = false;
  std::string why_not;
  std::string warned_of;
  std::vector<Orphan> orphans;
};

struct HostedRecord {
  std::string name;
  net::ServiceId id = 0;
  std::vector<ListenerRecord> listeners;
  std::vector<ListenerRecord> leaving_listeners;  // to be emptied, and then closed
  SteeredRecord steering;
  rollover::DriverRecord driver;
  std::optional<config::Service> rolling_to;
  bool has_served = false;
  std::string launch_failure;
  bool leaving = false;
  bool handed_over = false;
};

struct ReloadRecord {
  std::uint32_t id = 0;
  std::uint64_t ticket = 0;
  std::vector<std::string> add, remove, roll_over, scale, adjust, unchanged, needs_restart;
  std::string failures;
  std::vector<std::string> rolling, starting;
};

struct RequestedUpgrade {
  std::uint64_t ticket = 0;  // of who waits for it; 0: a signal
  std::string binary;        // empty: the executable that runs
};

// The upgrade under way.
struct UpgradeRecord {
  RequestedUpgrade request;
  std::string from_version;
  std::string binary;                // as it is told
  std::string executable;            // where the one that runs until then is looked for
  int image = -1;                    // the new executable
  int former = -1;                   // the one that runs until then
  std::uint32_t count = 0;           // of those before, in this process; since version 2
  std::int64_t silent_since_ns = 0;  // steady clock
};

struct PassedSocketRecord {
  std::string name;
  int socket = -1;
};

struct Record {
  UpgradeRecord upgrade;
  std::deque<RequestedUpgrade> further;  // upgrades asked for since, in order
  config::Config config;                 // as last committed
  // Of the command line: the file, and what wins over it.
  std::string config_file, control_override, pid_file_override;
  std::string control_path;
  std::string runtime_directory;
  std::string pid_file;                            // written; empty: none
  std::uint64_t nofile_soft = 0, nofile_hard = 0;  // as relayd was started with them
  TimePoint started{};
  std::uint32_t next_id = 1;
  bool told_ready = false;  // the service manager
  std::vector<PassedSocketRecord> passed;
  std::string why_none_passed;
  backend::KeeperRecord keeper;
  std::vector<pid_t> strays;  // processes of relayd's own that end with this image: checks under way
  net::PlaneRecord plane;
  std::optional<steering::SwitchRecord> steering;
  std::vector<HostedRecord> services;
  std::vector<control::Event> events;
  std::uint64_t last_event = 0;
  std::vector<ReloadRecord> reloads;
  std::uint32_t last_reload = 0;
  control::ServerRecord control;
  // Of the process.
  pid_t pid = 0;
  std::uint64_t capabilities = 0;  // effective (capabilities(7))
};

// `version`: from kOldestVersion to kVersion. What an older one does not have is left out.
std::string encode(const Record& record, std::uint32_t version = kVersion);
// The error says what is wrong, and which versions can be read. Never throws. `newest` is for tests: up to
// which.
Result<Record> decode(const std::string& bytes, std::uint32_t newest = kVersion);
// All of the record, each once.
std::vector<int> descriptors_of(const Record& record);
// For a rehearsal, each part of whose record tells of another moment: a descriptor that was closed after the
// one and opened before the other stands in both. Connections with such a descriptor are left out.
void leave_out_what_shares_descriptors(Record& record);

}  // namespace relayd::upgrade
