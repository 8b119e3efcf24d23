#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "proxy/base/socket_file.h"
#include "proxy/config/config.h"
#include "proxy/daemon/inherited_sockets.h"
#include "proxy/net/data_plane.h"
#include "proxy/upgrade/record.h"

namespace relayd {

struct OpenListener : net::Listener {
  std::shared_ptr<const SocketFile> file;  // null for TCP, abstract and inherited sockets
  bool shared = false;  // somebody else has it too, to whom a change of O_NONBLOCK would happen
};
using Listeners = std::vector<std::unique_ptr<OpenListener>>;

// Opens what `entries` name and `own` does not have yet; what both have is not touched. An address on which
// one of `others` listens already (a service that is renamed, an entry that is written differently) is shared
// with it: the socket never closes. ":80" is both families; where the machine has no IPv6, that half is left
// out. "fd:NAME" is every socket that relayd inherited under that name. All or nothing; the result is only
// what is new. All are close-on-exec; those that are not shared do not block.
Result<Listeners> open_new_listeners(const std::vector<std::string>& entries, const Listeners& own,
                                     const std::vector<const Listeners*>& others,
                                     const InheritedSockets& inherited = {});

// For an upgrade of relayd. A file that several of them have is one again by `files`.
upgrade::ListenerRecord record_of(const OpenListener& listener);
using SocketFiles = std::map<FileIdentity, std::shared_ptr<const SocketFile>>;
std::unique_ptr<OpenListener> adopt_listener(const upgrade::ListenerRecord& record, SocketFiles& files);

// Those of `listeners` that stand for one of `entries`.
std::vector<const net::Listener*> named_by(const std::vector<std::string>& entries,
                                           const Listeners& listeners);

}  // namespace relayd
