#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "proxy/base/address.h"
#include "proxy/base/proxy_protocol.h"

namespace relayd::load {

enum class Protocol { kHttp, kRedis, kLine };
// How much of an answer is compared with what was sent: nothing but its status, also the request's id, also
// the length of the body, also its CRC-32 (what demo_app and the test apps report in X-Body-Length and
// X-Body-Crc32).
enum class Checking { kStatus, kId, kLength, kCrc };

// Whom an answer must name as its client, in X-Client ("address:port", IPv6 without brackets): nobody, the
// client's address, also its port.
enum class ClientCheck { kNone, kAddress, kPort };

struct Options {
  SocketAddress server;
  unsigned clients = 1;
  Protocol protocol = Protocol::kHttp;
  Checking checking = Checking::kCrc;
  bool keep_alive = false;     // else a new connection for every request
  unsigned post_percent = 25;  // http: share of requests that carry a body
  std::uint64_t body_bytes = 16384;
  std::string path = "/";
  std::uint64_t count = 0;                // requests in all; 0: until stopped
  std::chrono::milliseconds duration{0};  // 0: until stopped
  std::chrono::milliseconds timeout{20000};
  std::chrono::milliseconds think{0};  // a client's pause between two requests
  bool check_order = false;
  bool progress = false;
  // Every connection begins with such a header, which names a client of its own.
  std::optional<ProxyVersion> proxy_protocol;
  ClientCheck client_check = ClientCheck::kNone;
};

// Reads the command line. Returns the exit status in `status` and false where the program should end.
bool read_options(int argc, char** argv, Options& options, int& status);

}  // namespace relayd::load
