#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "proxy/backend/record.h"
#include "proxy/config/config.h"
#include "proxy/rollover/report.h"
#include "proxy/rollover/state.h"

// What the driver of a service leaves to the next image of relayd, which goes on where it stood: plain data,
// with descriptors as numbers that nobody owns (-1: none).
namespace relayd::rollover {

struct DefinitionRecord {
  config::Service service;
  std::map<std::string, std::string> env;
  struct Socket {
    std::string name;
    SocketAddress address;
    int fd = -1;
  };
  std::vector<Socket> sockets;
};

struct LoadRecord {
  SocketAddress address;
  std::uint64_t connections = 0;
  std::uint64_t connect_failures = 0;
  std::uint64_t requests = 0;
};

// The place of an instance: `instance` is empty where no process is in it.
struct SlotRecord {
  GenerationNumber generation = 0;
  InstanceIndex index = 0;
  std::optional<backend::InstanceRecord> instance;
  std::vector<LoadRecord> loads;
  std::uint64_t past_connections = 0;
  std::uint64_t past_requests = 0;
  std::string last_end;
  std::string refusal;
  int listening = -1;
};

// Somebody who waits for the end of a rollover, or of the generation that it has replaced.
struct RolloverWaiterRecord {
  std::uint64_t ticket = 0;
  bool until_drained = false;
  GenerationNumber drains = 0;  // 0: the rollover is in progress; else `report` is of one that has ended
  Report report;
};

struct DriverRecord {
  config::Service service;
  std::optional<unsigned> scaled;
  State state;
  struct Definition {
    GenerationNumber number = 0;
    GenerationNumber same_as = 0;  // an earlier one of the list; 0: it has its own
    DefinitionRecord definition;
  };
  std::vector<Definition> definitions;
  // Of the generation to be created next: the one of `next_number`, or where that is 0, this, if any.
  GenerationNumber next_number = 0;
  std::optional<DefinitionRecord> next_definition;
  std::vector<SlotRecord> slots;
  std::vector<std::pair<GenerationNumber, InstanceIndex>> deferred_ready;
  std::vector<std::uint64_t> drains;  // tokens that are still to be answered
  std::vector<RolloverWaiterRecord> waiters;
  std::optional<Report> last_report;
};

}  // namespace relayd::rollover
