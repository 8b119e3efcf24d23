#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

#include "proxy/base/address.h"
#include "proxy/base/descriptor.h"
#include "proxy/base/error.h"
#include "proxy/upgrade/record.h"

namespace relayd {

// The sockets that systemd, or whoever plays its part, has passed to relayd by the protocol of
// sd_listen_fds(3). They stay open as long as relayd runs, used or not: their addresses are the service
// manager's, and a later reload may ask for them.
class InheritedSockets {
 public:
  InheritedSockets() = default;  // none were passed

  // From relayd's own environment and descriptors, which it owns from here on: close-on-exec is set, and the
  // variables are taken out, so that no child takes them for its own. Once, before threads exist.
  static InheritedSockets take();

  // For an upgrade of relayd; adopt() owns the descriptors.
  void save(upgrade::Record& record) const;
  static InheritedSockets adopt(const upgrade::Record& record);

  struct Found {
    SocketAddress address;
    Descriptor socket;  // a second descriptor of the same socket, with its own close-on-exec
  };
  // Those passed under `name`, at least one. The error lists what was passed, or says why nothing was; a
  // descriptor that is no listening stream socket is an error too.
  Result<std::vector<Found>> named(const std::string& name) const;
  // In the order in which they were passed, each once.
  std::vector<std::string> names() const;

 private:
  struct Passed {
    std::string name;
    Descriptor socket;
  };
  std::vector<Passed> passed_;
  std::string why_none_ = "none were passed: LISTEN_FDS is not set";
};

// The names of the descriptors 3, 4, … that these variables (null: not set) promise to process `self`;
// "unknown" where LISTEN_FDNAMES has none. Empty where there are none; the error where they are for somebody
// else, or make no sense.
Result<std::vector<std::string>> passed_names(const char* listen_pid, const char* listen_fds,
                                              const char* listen_fdnames, pid_t self);

}  // namespace relayd
