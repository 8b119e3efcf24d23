#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "proxy/base/address.h"
#include "proxy/base/error.h"
#include "proxy/base/loop.h"
#include "proxy/base/time.h"

namespace relayd::backend {

struct Resolved {
  std::vector<SocketAddress> addresses;  // sorted, none twice, at least one
  Duration valid{};                      // how long the shortest-lived record may be kept
};

// One look-up of a host name: /etc/hosts (or the file that CARES_HOSTS names) and the name servers of
// resolv.conf(5), as they are then. Belongs to the loop's thread, and takes no other (a thread that waits in
// getaddrinfo(3) for a dead server cannot be called back, and would hold up relayd's end).
class Lookup {
 public:
  // Runs on the loop, never inside the constructor, once; the look-up may be destroyed inside it. The error
  // names the host and says what came. Name servers that do not answer end it after some seconds each.
  using Done = std::function<void(Result<Resolved>)>;

  Lookup(Loop& loop, const std::string& host, std::uint16_t port, Done done);
  ~Lookup();  // cancels it
  Lookup(const Lookup&) = delete;
  Lookup& operator=(const Lookup&) = delete;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace relayd::backend
