#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "proxy/base/socket_file.h"

// What is written down of the control socket when relayd replaces its executable: plain data, from which the
// new one goes on. Descriptors are numbers that stay open over exec(3): close-on-exec is the caller's, before
// it and after it, as the former image may have to be given them back. Whoever holds a record owns them until
// restore() has taken them.
namespace relayd::control {

// A request without an answer.
struct RequestRecord {
  std::uint64_t token = 0;
  std::string line;  // as it was received, without its end
  bool operator==(const RequestRecord&) const = default;
};

struct ClientRecord {
  std::uint64_t id = 0;
  int fd = -1;
  std::string input;   // received, and not acted upon
  std::string output;  // not sent yet
  std::uint64_t next_token = 1;
  std::vector<RequestRecord> requests;   // in order of their tokens
  std::optional<std::string> following;  // which service's events; empty: all
  bool skipping = false;                 // within a line that was too long
  bool input_ended = false;              // nothing more is read from it
  bool ending = false;                   // closed once the output has left, or after a while
  bool operator==(const ClientRecord&) const = default;
};

struct ServerRecord {
  int fd = -1;  // listens
  FileIdentity file;
  std::optional<std::uint32_t> group;  // control.group, as it was looked up; since version 2 of the state
  std::uint64_t next_client = 1;       // no client has had this number, or a higher one
  std::vector<ClientRecord> clients;   // in order of their ids
  bool operator==(const ServerRecord&) const = default;
};

}  // namespace relayd::control
