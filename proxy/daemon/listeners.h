#pragma once

#include <memory>
#include <string>
#include <vector>

#include "proxy/config/config.h"
#include "proxy/net/data_plane.h"

namespace relayd {

using Listeners = std::vector<std::unique_ptr<net::Listener>>;

// Opens what `entries` name and `existing` does not have yet; what both have is not touched. ":80" is both
// families; where the machine has no IPv6, that half is left out. All or nothing: on an error no socket is
// left open. The result is only what is new.
Result<Listeners> open_new_listeners(const std::vector<std::string>& entries, const Listeners& existing);

// Those of `listeners` that stand for one of `entries`.
std::vector<const net::Listener*> named_by(const std::vector<std::string>& entries,
                                           const Listeners& listeners);

// Closes them for good and removes the files of Unix sockets.
void close_listeners(Listeners& listeners);

}  // namespace relayd
