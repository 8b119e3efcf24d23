#include "proxy/config/steering.h"

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
  return faults;
}

}  // namespace relayd::config
