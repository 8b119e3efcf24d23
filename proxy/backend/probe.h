#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "proxy/backend/spawn.h"
#include "proxy/base/address.h"
#include "proxy/base/error.h"
#include "proxy/base/loop.h"
#include "proxy/base/time.h"

namespace relayd::backend {

class Keeper;

// One try of a health check. Destroying it cancels what is under way.
class Probe {
 public:
  // Runs on the loop, never inside start(), at most once; the probe may be destroyed inside it. The error
  // says what was asked and what came: "GET /up: 503 Service Unavailable".
  using Done = std::function<void(Result<void>)>;

  virtual ~Probe() = default;
  virtual void start(Done done) = 0;
};

// Well when something accepts the connection. Afterwards the probe stays in the background for up to a second
// to close without an RST, if it is not destroyed. `preamble`, which may be empty, is sent first: the PROXY
// header that an app expects on every connection. It need not be taken.
std::unique_ptr<Probe> make_tcp_probe(Loop& loop, const SocketAddress& address, Duration timeout,
                                      std::string preamble);

// Well when the connection has left the accept queue of `listening`, a descriptor of the listening socket at
// `address`, which outlives the probe: the kernel alone makes a connect to it succeed. Where the kernel does
// not tell the queue's length, a connect is enough.
std::unique_ptr<Probe> make_accept_probe(Loop& loop, const SocketAddress& address, int listening,
                                         Duration timeout, std::string preamble);

// Well when a GET of `path`, sent behind `preamble`, is answered with a status from 200 on and below
// `bad_from` (300: a 2xx).
std::unique_ptr<Probe> make_http_probe(Loop& loop, const SocketAddress& address, std::string path,
                                       int bad_from, Duration timeout, std::string preamble);

// Well when the program exits with 0. Its whole process group is killed at `timeout`.
std::unique_ptr<Probe> make_command_probe(Loop& loop, Keeper& keeper, Program program, Duration timeout);

// The status and reason of an HTTP/1.x status line without its line end: 503, "503 Service Unavailable".
struct HttpStatus {
  int code = 0;
  std::string text;
};
Result<HttpStatus> parse_status_line(std::string_view line);

}  // namespace relayd::backend
