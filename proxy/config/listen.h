#pragma once

#include <string_view>
#include <vector>

#include "proxy/base/address.h"

namespace relayd::config {

// "fd:NAME": the sockets that systemd passed to relayd under that name.
inline constexpr std::string_view kInherited = "fd:";

// The addresses that one entry of `listen` stands for: ":80" is every address of both families (0.0.0.0:80
// and
// [::]:80), all others are one. Not for "fd:NAME". The error says what was expected.
Result<std::vector<SocketAddress>> listen_addresses(std::string_view entry);

// True where both cannot be listened on at once: the same address, or the same port where one is every
// address of the family. Port 0, any free port, never clashes.
bool clash(const SocketAddress& a, const SocketAddress& b);

}  // namespace relayd::config
