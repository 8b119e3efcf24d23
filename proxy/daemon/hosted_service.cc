#include "proxy/daemon/hosted_service.h"

#include <algorithm>

namespace relayd {

std::vector<const net::Listener*> HostedService::all_listeners() const {
  std::vector<const net::Listener*> all;
  for (const auto& listener : listeners) all.push_back(listener.get());
  return all;
}

void HostedService::change_listeners(net::DataPlane& data_plane, const config::Service& wanted,
                                     Listeners opened) {
  for (auto& listener : opened) listeners.push_back(std::move(listener));
  const std::vector<const net::Listener*> kept = named_by(wanted.listen, listeners);
  // Those that go stay open until no worker uses them: what waits in their queues is accepted first.
  auto leaving_ones = std::make_shared<Listeners>();
  for (auto& listener : listeners) {
    if (std::ranges::find(kept, listener.get()) == kept.end()) leaving_ones->push_back(std::move(listener));
  }
  std::erase(listeners, nullptr);
  steering->set_addresses(kept);  // before a socket that goes is emptied
  data_plane.update_service(id, wanted, kept, [leaving_ones] { leaving_ones->clear(); });
}

}  // namespace relayd
