#include "proxy/config/targets.h"

#include <algorithm>
#include <cctype>

#include "proxy/config/listen.h"
#include "proxy/config/words.h"

namespace relayd::config {
namespace {

constexpr const char* kForms =
    "give host:port, as in 10.0.0.5:8000, app.internal:8000 or [fd00::5]:8000, or unix:/path";

bool is_host_name(std::string_view name) {
  if (name.ends_with('.')) name.remove_suffix(1);
  if (name.empty() || name.size() > 253) return false;
  std::string_view label;
  for (std::size_t start = 0; start <= name.size(); start += label.size() + 1) {
    label = name.substr(start, name.find('.', start) - start);
    const bool plain = std::ranges::all_of(
        label, [](unsigned char c) { return c < 0x80 && (std::isalnum(c) != 0 || c == '-' || c == '_'); });
    if (label.empty() || label.size() > 63 || !plain || label.front() == '-' || label.back() == '-')
      return false;
  }
  // Digits at the end are an address that went wrong, such as 10.0.0.300.
  return !std::ranges::all_of(label, [](unsigned char c) { return std::isdigit(c) != 0; });
}

// A key of `backend` that says how a process is started or stopped, and whether it was given.
struct ProcessKey {
  const char* key;
  bool (*given)(const Backend&, const Backend& defaults);
};

constexpr ProcessKey kProcessKeys[] = {
    {"address", [](const Backend& b, const Backend& d) { return b.address != d.address; }},
    {"steering", [](const Backend& b, const Backend& d) { return b.steering != d.steering; }},
    {"directory", [](const Backend& b, const Backend& d) { return b.directory != d.directory; }},
    {"env", [](const Backend& b, const Backend& d) { return b.env != d.env; }},
    {"env_file", [](const Backend& b, const Backend& d) { return b.env_file != d.env_file; }},
    {"user", [](const Backend& b, const Backend& d) { return b.user != d.user; }},
    {"group", [](const Backend& b, const Backend& d) { return b.group != d.group; }},
    {"limits.nofile", [](const Backend& b, const Backend& d) { return b.nofile != d.nofile; }},
    {"stop_signal", [](const Backend& b, const Backend& d) { return b.stop_signal != d.stop_signal; }},
    {"stop", [](const Backend& b, const Backend& d) { return b.stop != d.stop; }},
    {"kill_timeout", [](const Backend& b, const Backend& d) { return b.kill_timeout != d.kill_timeout; }},
    {"restart_delay",
     [](const Backend& b, const Backend& d) { return !(b.restart_delay == d.restart_delay); }},
};

struct Wrong {
  std::size_t index;
  std::string message;
};

std::optional<Wrong> first_wrong(const std::vector<std::string>& targets) {
  for (std::size_t i = 0; i < targets.size(); ++i) {
    if (const auto target = parse_target(targets[i]); !target) return Wrong{i, target.error().message};
    const auto here = targets.begin() + static_cast<std::ptrdiff_t>(i);
    if (std::find(targets.begin(), here, targets[i]) != here) {
      return Wrong{i, in_quotes(targets[i]) + " is named twice: name each target once"};
    }
  }
  return std::nullopt;
}

}  // namespace

Result<Target> parse_target(std::string_view text) {
  const std::string shown = in_quotes(text);
  const std::size_t colon = text.rfind(':');
  if (text.starts_with("unix:") || text.starts_with('[')) {
    const auto address = SocketAddress::parse(text);
    if (!address) return std::unexpected(address.error());
    if (!address->is_unix() && address->port() == 0) return fail(shown + " has port 0: " + kForms);
    return Target{*address, "", address->port()};
  }
  if (colon == std::string_view::npos) return fail(shown + " has no port: " + kForms);
  // The port is read, and its error told, as that of an address.
  const auto with_port = SocketAddress::parse("127.0.0.1" + std::string(text.substr(colon)));
  if (!with_port || with_port->port() == 0)
    return fail(shown + " has no valid port: give one from 1 to 65535");
  if (const auto address = SocketAddress::parse(text)) return Target{*address, "", address->port()};
  const std::string_view host = text.substr(0, colon);
  if (!is_host_name(host)) return fail(shown + " names no host: " + kForms);
  return Target{std::nullopt, std::string(host), with_port->port()};
}

Result<void> check_targets(const std::vector<std::string>& targets) {
  if (targets.empty()) return fail("no target is named: " + std::string(kForms));
  if (targets.size() > kMostInstances) {
    return fail("more than " + std::to_string(kMostInstances) + " targets: name fewer");
  }
  if (auto wrong = first_wrong(targets)) return fail(std::move(wrong->message));
  return {};
}

namespace {

// Connections to it would come in again.
bool leads_back(const Service& service, const std::string& target) {
  const auto parsed = parse_target(target);
  if (!parsed || !parsed->address) return false;
  const SocketAddress& address = *parsed->address;
  return std::ranges::any_of(service.listen, [&address](const std::string& entry) {
    const auto listened = listen_addresses(entry);
    return listened && std::ranges::any_of(*listened, [&address](const SocketAddress& own) {
             const std::string_view ip = own.ip_bytes();
             const bool any = !own.is_unix() && std::ranges::all_of(ip, [](char byte) { return byte == 0; });
             return own == address || (any && address.is_loopback() && own.port() == address.port());
           });
  });
}

}  // namespace

std::vector<KeyFault> target_faults(const Service& service) {
  std::vector<KeyFault> faults;
  const Backend& backend = service.backend;
  if (backend.targets.empty()) return faults;
  if (!backend.command.empty()) {
    faults.push_back(
        {"backend.targets",
         "there is a 'command' too: relayd either starts the app itself (command), or connects to "
         "what somebody else runs (targets); remove one of them"});
    return faults;
  }
  if (auto wrong = first_wrong(backend.targets)) {
    faults.push_back({"backend.targets[" + std::to_string(wrong->index) + "]", std::move(wrong->message)});
  } else if (const auto fit = check_targets(backend.targets); !fit) {
    faults.push_back({"backend.targets", fit.error().message});
  }
  for (std::size_t i = 0; i < backend.targets.size(); ++i) {
    if (!leads_back(service, backend.targets[i])) continue;
    faults.push_back({"backend.targets[" + std::to_string(i) + "]",
                      in_quotes(backend.targets[i]) +
                          " is an address of this service's own 'listen': name the address of the app"});
  }
  const Backend defaults;
  for (const ProcessKey& process : kProcessKeys) {
    if (!process.given(backend, defaults)) continue;
    faults.push_back({std::string("backend.") + process.key,
                      "has no effect with 'targets', which somebody else starts and stops: remove it"});
  }
  if (backend.instances != defaults.instances) {
    faults.push_back({"backend.instances",
                      "has no effect with 'targets': each target is one instance; name more targets"});
  }
  if (service.health.check == Check::kNotify) {
    faults.push_back(
        {"health.check",
         "a target cannot send READY=1 to relayd: write 'http' with a 'path', 'tcp' or 'command'"});
  }
  const auto is_unix = [](const std::string& target) { return target.starts_with("unix:"); };
  if (service.transparent && std::ranges::any_of(backend.targets, is_unix)) {
    faults.push_back(
        {"transparent",
         "has no effect with a target that is a Unix socket, which has no IP addresses: name host:port, "
         "or tell the app its clients by 'proxy_protocol: {send: v2}'"});
  }
  return faults;
}

}  // namespace relayd::config
