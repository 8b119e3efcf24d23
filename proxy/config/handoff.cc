#include "proxy/config/handoff.h"

#include <string>

namespace relayd::config {
namespace {

struct Exclusion {
  const char* key;
  bool (*asked)(const Service&);
};

// Each would be relayd's work between client and app. The default asks for nothing.
constexpr Exclusion kExclusions[] = {
    {"protocol", [](const Service& s) { return s.protocol != Protocol::kAuto; }},
    {"proxy_protocol.accept", [](const Service& s) { return s.proxy_protocol.accept; }},
    {"proxy_protocol.send", [](const Service& s) { return s.proxy_protocol.send != ProxyProtocol::kOff; }},
    {"forwarded_headers", [](const Service& s) { return s.forwarded_headers; }},
    {"transparent", [](const Service& s) { return s.transparent; }},
    {"limits.max_connections",
     [](const Service& s) { return s.limits.max_connections != ServiceLimits{}.max_connections; }},
    {"limits.connect_timeout",
     [](const Service& s) { return s.limits.connect_timeout != ServiceLimits{}.connect_timeout; }},
    {"limits.idle_timeout",
     [](const Service& s) { return s.limits.idle_timeout != ServiceLimits{}.idle_timeout; }},
    {"backend.balance", [](const Service& s) { return s.backend.balance != Backend{}.balance; }},
    {"rollover.tunnel_timeout", [](const Service& s) { return s.rollover.tunnel_timeout.has_value(); }},
    {"rollover.close_spread", [](const Service& s) { return s.rollover.close_spread != Duration::zero(); }},
    {"hold.max_connections",
     [](const Service& s) { return s.hold.max_connections != Hold{}.max_connections; }},
    {"hold.timeout", [](const Service& s) { return s.hold.timeout != Hold{}.timeout; }},
    {"hold.release_rate", [](const Service& s) { return s.hold.release_rate != Hold{}.release_rate; }},
};

}  // namespace

std::vector<KeyFault> faults_of_handoff(const Service& service) {
  std::vector<KeyFault> faults;
  if (service.backend.address != AddressKind::kHandoff) return faults;
  for (const Exclusion& exclusion : kExclusions) {
    if (!exclusion.asked(service)) continue;
    faults.push_back({exclusion.key,
                      "has no effect with 'address: handoff', where the app accepts from the public sockets "
                      "itself: remove it, or write 'address: activation'"});
  }
  const Check check = service.health.check;
  if (check == Check::kTcp || check == Check::kHttp) {
    faults.push_back(
        {"health.check",
         "'" + std::string(to_string(check)) +
             "' proves nothing with 'address: handoff': the old generation, or the kernel alone, "
             "would answer on the public socket; let the app send READY=1 to NOTIFY_SOCKET "
             "('notify'), or write 'command' or 'none'"});
  }
  if (check == Check::kAuto && !service.health.path.empty()) {
    faults.push_back({"health.path",
                      "has no effect with 'address: handoff', whose 'check: auto' is notify, as the old "
                      "generation would answer too: remove it, and let the app send READY=1 to "
                      "NOTIFY_SOCKET"});
  }
  return faults;
}

}  // namespace relayd::config
