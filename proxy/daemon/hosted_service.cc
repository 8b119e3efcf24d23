#include "proxy/daemon/hosted_service.h"

#include <fcntl.h>

#include <algorithm>

#include "proxy/config/listen.h"

namespace relayd {

std::vector<const net::Listener*> HostedService::accepting() const {
  std::vector<const net::Listener*> all;
  if (handed_over) return all;
  for (const auto& listener : listeners) all.push_back(listener.get());
  return all;
}

void HostedService::change_listeners(net::DataPlane& data_plane, const config::Service& wanted,
                                     Listeners opened) {
  for (auto& listener : opened) listeners.push_back(std::move(listener));
  if (handed_over) return data_plane.update_service(id, wanted, {}, [] {});
  const std::vector<const net::Listener*> kept = named_by(wanted.listen, listeners);
  // Those that go stay open until no worker uses them: what waits in their queues is accepted first.
  auto leaving_ones = std::make_shared<Listeners>();
  for (auto& listener : listeners) {
    if (std::ranges::find(kept, listener.get()) == kept.end()) leaving_ones->push_back(std::move(listener));
  }
  std::erase(listeners, nullptr);
  steering->set_addresses(kept);  // before a socket that goes is emptied
  std::erase_if(leaving_listeners, [](const auto& group) { return group->empty(); });
  if (!leaving_ones->empty()) leaving_listeners.push_back(leaving_ones);
  data_plane.update_service(id, wanted, kept, [leaving_ones] { leaving_ones->clear(); });
}

void HostedService::empty_leaving(net::DataPlane& data_plane) {
  for (const auto& group : leaving_listeners) {
    std::vector<int> sockets;
    for (const auto& listener : *group) sockets.push_back(listener->socket.get());
    data_plane.empty_queues(id, sockets, [group] { group->clear(); });
  }
}

void HostedService::keep_listeners(const std::vector<std::string>& entries) {
  std::erase_if(listeners, [&entries](const auto& listener) {
    return std::ranges::find(entries, listener->name) == entries.end();
  });
}

Result<std::vector<backend::PublicSocket>> HostedService::public_sockets(const config::Service& wanted,
                                                                         const Listeners& opened) const {
  std::vector<backend::PublicSocket> sockets;
  if (wanted.backend.address != config::AddressKind::kHandoff) return sockets;
  for (const std::string& entry : wanted.listen) {
    const std::string label =
        entry.starts_with(config::kInherited) ? entry.substr(config::kInherited.size()) : wanted.name;
    for (const Listeners* some : {&listeners, &opened}) {
      for (const auto& listener : *some) {
        if (listener->name != entry) continue;
        Descriptor copy(::fcntl(listener->socket.get(), F_DUPFD_CLOEXEC, 0));
        if (!copy) return fail_errno("cannot hand over the listener on " + listener->address.to_string());
        sockets.push_back({label, listener->address, std::make_shared<const Descriptor>(std::move(copy))});
      }
    }
  }
  return sockets;
}

}  // namespace relayd
