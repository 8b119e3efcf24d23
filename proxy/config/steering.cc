#include "proxy/config/steering.h"

#include <algorithm>
#include <string>

#include "proxy/config/words.h"

namespace relayd::config {

std::vector<KeyFault> faults_of_steering(const Service& service) {
  std::vector<KeyFault> faults;
  if (service.backend.steering == Steering::kOff) return faults;
  const std::string cure =
      "does not go with 'backend.steering', which takes connections past relayd: remove one of the two";
  const auto refuse = [&](bool asked, const char* key, const std::string& more = "") {
    if (asked) faults.push_back({key, cure + more});
  };
  refuse(service.proxy_protocol.accept, "proxy_protocol.accept");
  refuse(service.proxy_protocol.send != ProxyProtocol::kOff, "proxy_protocol.send");
  refuse(service.transparent, "transparent", " (the app sees its clients by steering too)");
  refuse(service.forwarded_headers, "forwarded_headers");
  refuse(service.rollover.close_spread > Duration::zero(), "rollover.close_spread");
  const AddressKind kind = service.backend.address;
  if (kind != AddressKind::kPort && kind != AddressKind::kActivation) {
    faults.push_back(
        {"backend.address", "is '" + std::string(to_string(kind)) +
                                "', of which 'backend.steering' has no TCP listener to steer to: write "
                                "'port' or 'activation', or 'steering: off'"});
  }
  const auto is_unix = [](const std::string& entry) { return entry.starts_with("unix:"); };
  if (!service.listen.empty() && std::ranges::all_of(service.listen, is_unix)) {
    faults.push_back({"backend.steering",
                      "steers TCP connections, and 'listen' has only Unix sockets: listen on a port too, or "
                      "write 'steering: off'"});
  }
  if (service.backend.steering == Steering::kOn && kind == AddressKind::kPort &&
      service.health.check == Check::kNone) {
    faults.push_back({"health.check",
                      "is 'none', with which an instance counts as ready before it listens, and cannot be "
                      "steered to: write 'tcp', or 'steering: auto'"});
  }
  return faults;
}

}  // namespace relayd::config
