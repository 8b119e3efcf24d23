#include "proxy/daemon/listeners.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "proxy/config/listen.h"

namespace relayd {
namespace {

constexpr int kBacklog =
    65535;  // cut by net.core.somaxconn: clients wait in the kernel's queue, so it is to be long

bool has(const std::vector<std::string>& entries, const std::string& name) {
  return std::ranges::find(entries, name) != entries.end();
}

// Adds to `opened` also where it fails half-way.
Result<void> open_into(Listeners& opened, const std::vector<std::string>& entries,
                       const Listeners& existing) {
  for (const std::string& entry : entries) {
    if (std::ranges::any_of(existing, [&entry](const auto& l) { return l->name == entry; })) continue;
    const auto addresses = config::listen_addresses(entry);
    if (!addresses) return std::unexpected(addresses.error());
    std::uint16_t port = 0;  // what the first family got for port 0, the second takes too
    for (SocketAddress address : *addresses) {
      if (port != 0 && address.port() == 0) {
        const auto same = SocketAddress::parse("[" + address.host() + "]:" + std::to_string(port));
        if (same) address = *same;
      }
      auto socket = listen_on(address, kBacklog);
      const bool no_such_family =
          !socket && (socket.error().code == EAFNOSUPPORT || socket.error().code == EADDRNOTAVAIL);
      if (no_such_family && addresses->size() > 1 && address.family() == AF_INET6) continue;
      if (!socket) return std::unexpected(socket.error());
      const auto bound = local_address(socket->get());
      if (!bound) return std::unexpected(bound.error());
      port = bound->port();
      opened.push_back(std::make_unique<net::Listener>(net::Listener{entry, *bound, std::move(*socket)}));
    }
  }
  return {};
}

}  // namespace

Result<Listeners> open_new_listeners(const std::vector<std::string>& entries, const Listeners& existing) {
  Listeners opened;
  if (const auto all = open_into(opened, entries, existing); !all) {
    close_listeners(opened);
    return std::unexpected(all.error());
  }
  return opened;
}

std::vector<const net::Listener*> named_by(const std::vector<std::string>& entries,
                                           const Listeners& listeners) {
  std::vector<const net::Listener*> found;
  for (const auto& listener : listeners) {
    if (has(entries, listener->name)) found.push_back(listener.get());
  }
  return found;
}

void close_listeners(Listeners& listeners) {
  for (const auto& listener : listeners) {
    const std::string path = listener->address.path();
    struct stat info {};
    const bool is_file = !path.empty() && !path.starts_with('@');
    if (is_file && ::lstat(path.c_str(), &info) == 0 && S_ISSOCK(info.st_mode)) ::unlink(path.c_str());
  }
  listeners.clear();
}

}  // namespace relayd
