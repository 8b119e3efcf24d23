#include "proxy/daemon/listeners.h"

#include <fcntl.h>

#include <algorithm>
#include <cerrno>

#include "proxy/config/listen.h"

namespace relayd {
namespace {

// Clients wait in the kernel's queue, so it is to be long; net.core.somaxconn cuts it.
constexpr int kBacklog = 65535;

const OpenListener* find(const std::vector<const Listeners*>& all, const SocketAddress& address) {
  for (const Listeners* listeners : all) {
    for (const auto& listener : *listeners) {
      if (listener->address == address) return listener.get();
    }
  }
  return nullptr;
}

Result<std::unique_ptr<OpenListener>> share(const OpenListener& other, const std::string& name) {
  Descriptor socket(::fcntl(other.socket.get(), F_DUPFD_CLOEXEC, 0));
  if (!socket) return fail_errno("cannot share the listener on " + other.address.to_string());
  return std::make_unique<OpenListener>(
      OpenListener{{name, other.address, std::move(socket)}, other.file, true});
}

Result<std::unique_ptr<OpenListener>> open(const SocketAddress& address, const std::string& name) {
  auto socket = listen_on(address, kBacklog);
  if (!socket) return std::unexpected(socket.error());
  std::shared_ptr<const SocketFile> file;
  if (const std::string path = address.path(); !path.empty() && path[0] != '@') {
    file = std::make_shared<const SocketFile>(path);
  }
  const auto bound = local_address(socket->get());
  if (!bound) return std::unexpected(bound.error());
  return std::make_unique<OpenListener>(OpenListener{{name, *bound, std::move(*socket)}, std::move(file)});
}

Result<void> add_inherited(const std::string& entry, const InheritedSockets& inherited, Listeners& opened) {
  auto found = inherited.named(entry.substr(config::kInherited.size()));
  if (!found) return fail("cannot listen on '" + entry + "': " + found.error().message, found.error().code);
  for (auto& [address, socket] : *found) {
    opened.push_back(
        std::make_unique<OpenListener>(OpenListener{{entry, address, std::move(socket)}, nullptr, true}));
  }
  return {};
}

bool is_missing_family(const Error& error) {
  return error.code == EAFNOSUPPORT || error.code == EADDRNOTAVAIL;
}

}  // namespace

Result<Listeners> open_new_listeners(const std::vector<std::string>& entries, const Listeners& own,
                                     const std::vector<const Listeners*>& others,
                                     const InheritedSockets& inherited) {
  Listeners opened;
  for (const std::string& entry : entries) {
    if (std::ranges::any_of(own, [&entry](const auto& l) { return l->name == entry; })) continue;
    if (entry.starts_with(config::kInherited)) {
      if (auto added = add_inherited(entry, inherited, opened); !added) return std::unexpected(added.error());
      continue;
    }
    const auto addresses = config::listen_addresses(entry);
    if (!addresses) return std::unexpected(addresses.error());
    std::uint16_t port = 0;  // what the first family got for port 0, the second takes too
    for (SocketAddress address : *addresses) {
      if (port != 0 && address.port() == 0) {
        const auto same = SocketAddress::parse("[" + address.host() + "]:" + std::to_string(port));
        if (same) address = *same;
      }
      const OpenListener* known = find(others, address);
      auto listener = known != nullptr ? share(*known, entry) : open(address, entry);
      const bool other_half = addresses->size() > 1 && address.family() == AF_INET6;
      if (!listener && other_half && is_missing_family(listener.error())) continue;
      if (!listener) return std::unexpected(listener.error());
      port = (*listener)->address.port();
      opened.push_back(std::move(*listener));
    }
  }
  return opened;
}

upgrade::ListenerRecord record_of(const OpenListener& listener) {
  upgrade::ListenerRecord record{listener.name, listener.address, listener.socket.get(), std::nullopt,
                                 listener.shared};
  if (listener.file != nullptr) record.file = listener.file->identity();
  return record;
}

std::unique_ptr<OpenListener> adopt_listener(const upgrade::ListenerRecord& record, SocketFiles& files) {
  std::shared_ptr<const SocketFile> file;
  if (record.file) {
    auto& known = files[*record.file];
    if (known == nullptr) known = std::make_shared<const SocketFile>(*record.file);
    file = known;
  }
  return std::make_unique<OpenListener>(
      OpenListener{{record.name, record.address, Descriptor(record.socket)}, std::move(file), record.shared});
}

std::vector<const net::Listener*> named_by(const std::vector<std::string>& entries,
                                           const Listeners& listeners) {
  std::vector<const net::Listener*> found;
  for (const auto& listener : listeners) {
    if (std::ranges::find(entries, listener->name) != entries.end()) found.push_back(listener.get());
  }
  return found;
}

}  // namespace relayd
