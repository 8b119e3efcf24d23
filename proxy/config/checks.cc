#include "proxy/config/checks.h"

#include <grp.h>
#include <netinet/in.h>
#include <pwd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <map>

#include "proxy/base/address.h"
#include "proxy/config/handoff.h"
#include "proxy/config/listen.h"
#include "proxy/config/loader.h"
#include "proxy/config/not_built.h"
#include "proxy/config/steering.h"
#include "proxy/config/targets.h"
#include "proxy/config/template.h"
#include "proxy/config/words.h"

namespace relayd::config {
namespace {

using std::chrono_literals::operator""h;

constexpr std::size_t kMostAddresses = 1000;  // of all services; each takes a descriptor per data-path thread
constexpr std::size_t kLongestInheritedName = 255;  // systemd.socket(5), FileDescriptorName=
constexpr std::size_t kLongestServiceName = 48;     // it becomes part of socket paths, which end at 107 bytes

// One address of the whole configuration, with the key that asked for it.
struct Claim {
  SocketAddress address;
  std::string key;
  std::string entry;
};

// All that the services claim so far.
struct Claims {
  std::vector<Claim> addresses;
  std::map<std::string, std::string> inherited;  // "fd:NAME" entries, and the keys that asked for them
};

// Collects the faults of one section; keys are given relative to it.
class Section {
 public:
  Section(std::string path, std::vector<KeyFault>& faults) : path_(std::move(path)), faults_(faults) {}

  Section in(std::string_view name) const { return Section(key(name), faults_); }
  std::string key(std::string_view name) const {
    return path_.empty() ? std::string(name) : path_ + "." + std::string(name);
  }
  void fault(std::string_view name, std::string message) const {
    faults_.push_back({key(name), std::move(message)});
  }

  // Faults whose keys are relative to this section.
  void add(const std::vector<KeyFault>& faults) const {
    for (const KeyFault& f : faults) fault(f.key, f.message);
  }

  void bounded(std::string_view name, std::uint64_t value, std::uint64_t least, std::uint64_t most) const {
    if (value >= least && value <= most) return;
    fault(name, "out of range: " + std::to_string(value) + "; give " + std::to_string(least) + " to " +
                    std::to_string(most));
  }
  void bounded(std::string_view name, Duration value, Duration least, Duration most) const {
    if (value >= least && value <= most) return;
    fault(name, "out of range: " + format_duration(value) + "; give " + format_duration(least) + " to " +
                    format_duration(most));
  }

 private:
  std::string path_;
  std::vector<KeyFault>& faults_;
};

std::string indexed(std::string_view name, std::size_t index) {
  return std::string(name) + "[" + std::to_string(index) + "]";
}

// A user or group by its number, which needs no entry on this machine (a container may know no names).
bool is_id(std::string_view text) {
  const auto number = parse_count(text);
  return number && *number != static_cast<unsigned>(-1);
}

void check_group(const Section& section, const std::string& group) {
  if (!group.empty() && ::getgrnam(group.c_str()) == nullptr) {
    section.fault("group",
                  "there is no group " + in_quotes(group) + " on this machine ('getent group' lists them)");
  }
}

void check_control(const Section& section, const Control& control) {
  if (!control.socket.empty()) {
    if (control.socket.starts_with("unix:") || control.socket.starts_with('@')) {
      section.fault("socket", "expected the path of a file, as in /run/relayd/relayd.sock, not " +
                                  in_quotes(control.socket));
    } else if (const auto address = SocketAddress::unix_path(control.socket); !address) {
      section.fault("socket", address.error().message);
    }
  }
  if ((control.mode & 0600U) != 0600U) {
    section.fault("mode", "relayd's own user could not connect: give at least \"0600\"");
  }
  check_group(section, control.group);
}

// Whether such a socket was passed is known only when relayd starts.
void check_inherited(const Section& section, const Service& service, std::size_t i,
                     std::map<std::string, std::string>& inherited) {
  const std::string& entry = service.listen[i];
  const std::string name = entry.substr(kInherited.size());
  const bool fits =
      std::ranges::all_of(name, [](unsigned char c) { return c > 0x20 && c < 0x7F && c != ':'; });
  if (name.empty() || name.size() > kLongestInheritedName || !fits) {
    section.fault(indexed("listen", i), in_quotes(entry) +
                                            " names no socket: give the FileDescriptorName= of the .socket "
                                            "unit (printable, no ':'), as in \"fd:web\"");
    return;
  }
  const auto [other, is_new] = inherited.try_emplace(entry, section.key(indexed("listen", i)));
  if (!is_new) {
    section.fault(indexed("listen", i),
                  in_quotes(entry) + " clashes with " + other->second + ": it can be listened on once");
  }
}

void check_listen(const Section& section, const Service& service, Claims& all) {
  auto& [claims, inherited] = all;
  if (service.listen.empty())
    section.fault("listen", "no address to listen on: give at least one, as in [\":8080\"]");
  for (std::size_t i = 0; i < service.listen.size(); ++i) {
    const std::string& entry = service.listen[i];
    if (entry.starts_with(kInherited)) {
      check_inherited(section, service, i, inherited);
      continue;
    }
    const auto addresses = listen_addresses(entry);
    if (!addresses) {
      section.fault(indexed("listen", i), addresses.error().message);
      continue;
    }
    const std::string key = section.key(indexed("listen", i));
    for (const SocketAddress& address : *addresses) {
      const auto other =
          std::ranges::find_if(claims, [&](const Claim& c) { return clash(c.address, address); });
      if (other == claims.end() && claims.size() == kMostAddresses) {
        return section.fault(indexed("listen", i), "more than " + std::to_string(kMostAddresses) +
                                                       " addresses in all: listen on fewer");
      }
      if (other == claims.end()) {
        claims.push_back({address, key, entry});
      } else if (other->key != key) {
        section.fault(indexed("listen", i), in_quotes(entry) + " clashes with " + in_quotes(other->entry) +
                                                " of " + other->key + ": an address can be listened on once");
        break;
      }
    }
  }
}

// Templates that have a value with this kind of address; the values themselves do not matter here.
Result<std::string> template_value(std::string_view name, AddressKind kind) {
  if (name == "socket" && kind != AddressKind::kSocket) {
    return fail("{socket} has a value only with 'address: socket' (it is '" + std::string(to_string(kind)) +
                "')");
  }
  if (kind == AddressKind::kHandoff && (name == "port" || name == "host" || name == "address")) {
    return fail("{" + std::string(name) +
                "} has no value with 'address: handoff': the app takes the public sockets from LISTEN_FDS");
  }
  if ((name == "port" || name == "host") && kind == AddressKind::kSocket) {
    return fail(
        "{" + std::string(name) +
        "} has a value only with 'address: port' or 'activation' (it is 'socket'; {address} always has "
        "one)");
  }
  return "";
}

void check_template(const Section& section, const std::string& name, const std::string& text,
                    AddressKind kind) {
  const auto expanded = expand_template(text, [kind](std::string_view t) { return template_value(t, kind); });
  if (!expanded) section.fault(name, expanded.error().message);
}

void check_command(const Section& section, const std::vector<std::string>& command, AddressKind kind) {
  if (!command.empty() && command[0].empty()) {
    section.fault("command[0]", "the program's name is empty: give its name or path");
  }
  for (std::size_t i = 0; i < command.size(); ++i)
    check_template(section, indexed("command", i), command[i], kind);
}

bool is_variable_name(std::string_view name) {
  return !name.empty() && std::isdigit(static_cast<unsigned char>(name[0])) == 0 &&
         std::ranges::all_of(name, [](unsigned char c) { return c > 0x20 && c < 0x7F && c != '='; });
}

// relayd sets these itself, so what the file says would be lost.
bool is_set_by_relayd(std::string_view name, std::string_view value, AddressKind kind) {
  if (name == "HOST" && kind == AddressKind::kPort) return value != "{host}";
  if (name == "PORT" && kind == AddressKind::kPort) return value != "{port}";
  return name == "RELAY_SERVICE" || name == "RELAY_GENERATION" || name == "RELAY_INSTANCE" ||
         name == "RELAY_SOCKET" || name == "NOTIFY_SOCKET" || name.starts_with("LISTEN_");
}

void check_env(const Section& section, const Backend& backend) {
  const Section env = section.in("env");
  for (const auto& [name, value] : backend.env) {
    if (!is_variable_name(name)) {
      env.fault(name,
                "not a name for an environment variable: use letters, digits and '_', no digit in front");
    } else if (is_set_by_relayd(name, value, backend.address)) {
      env.fault(name,
                "relayd sets this variable itself for every instance; remove it, or give it another name");
    }
    check_template(env, name, value, backend.address);
  }
}

void check_directory(const Section& section, const std::string& directory) {
  if (directory.empty()) return;
  struct stat info {};
  if (::stat(directory.c_str(), &info) != 0) {
    section.fault("directory", "cannot use " + in_quotes(directory) + ": " + errno_text(errno));
  } else if (!S_ISDIR(info.st_mode)) {
    section.fault("directory", in_quotes(directory) + " is not a directory");
  }
}

void check_backend(const Section& section, const Backend& backend) {
  if (backend.command.empty() && backend.targets.empty()) {
    section.fault("command",
                  "nothing to run: give the program and its arguments, as in "
                  "[gunicorn, \"app:app\", --bind, \"{address}\"], or 'targets', which somebody else runs");
  }
  check_command(section, backend.command, backend.address);
  check_env(section, backend);
  check_directory(section, backend.directory);
  if (!backend.user.empty() && !is_id(backend.user) && ::getpwnam(backend.user.c_str()) == nullptr) {
    section.fault("user", "there is no user " + in_quotes(backend.user) +
                              " on this machine ('getent passwd' lists them)");
  }
  if (!is_id(backend.group)) check_group(section, backend.group);
  section.bounded("instances", backend.instances, 1, kMostInstances);
  if (backend.nofile) section.bounded("limits.nofile", *backend.nofile, 16, 1U << 30);
  section.bounded("kill_timeout", backend.kill_timeout, 0s, 1h);
  section.bounded("restart_delay.min", backend.restart_delay.min, 1ms, 1h);
  section.bounded("restart_delay.max", backend.restart_delay.max, 1ms, 24h);
  if (backend.restart_delay.min > backend.restart_delay.max) {
    section.fault("restart_delay.min",
                  "larger than restart_delay.max (" + format_duration(backend.restart_delay.min) + " and " +
                      format_duration(backend.restart_delay.max) + "): make min at most max");
  }
}

void check_health(const Section& section, const Health& health, AddressKind kind) {
  const std::string with = "with 'check: " + std::string(to_string(health.check)) + "'";
  if (health.check == Check::kHttp && health.path.empty()) {
    section.fault("path",
                  "missing " + with + ": give the path that answers 2xx when the app is ready, as in /up");
  }
  if (!health.path.empty()) {
    if (health.check != Check::kHttp && health.check != Check::kAuto) {
      section.fault("path", "has no effect " + with + ": remove it, or write 'check: http'");
    }
    const bool visible =
        std::ranges::all_of(health.path, [](unsigned char c) { return c > 0x20 && c < 0x7F; });
    if (!health.path.starts_with('/') || !visible) {
      section.fault("path",
                    "expected a path from '/', blanks and other bytes as %XX, not " + in_quotes(health.path));
    }
  }
  if (health.check == Check::kCommand && health.command.empty()) {
    section.fault("command", "missing " + with + ": give the program that exits 0 when the app is ready");
  }
  if (health.check != Check::kCommand && !health.command.empty()) {
    section.fault("command", "has no effect " + with + ": remove it, or write 'check: command'");
  }
  check_command(section, health.command, kind);
  section.bounded("interval", health.interval, 0s, 1h);
  section.bounded("timeout", health.timeout, 1ms, 1h);
  section.bounded("ready_timeout", health.ready_timeout, 1ms, 24h);
}

// A client's address can be taken on only towards another IP address, and by those who may.
void check_transparent(const Section& section, const Service& service) {
  if (!service.transparent) return;
  if (service.backend.address == AddressKind::kSocket) {
    section.fault(
        "transparent",
        "has no effect with 'address: socket', which has no IP addresses: write 'address: port', or "
        "tell the app its clients by 'proxy_protocol: {send: v2}'");
    return;
  }
  const Descriptor probe(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const int on = 1;
  if (probe && ::setsockopt(probe.get(), SOL_IP, IP_TRANSPARENT, &on, sizeof on) != 0) {
    section.fault("transparent",
                  "relayd may not connect from foreign addresses (" + errno_text(errno) +
                      "): run it as root or with CAP_NET_ADMIN, or tell the app its clients by "
                      "'proxy_protocol: {send: v2}'");
  }
}

void check_service(const Section& services, const Service& service, Claims& claims) {
  const Section section = services.in(service.name);
  const bool plain = std::ranges::all_of(service.name, [](unsigned char c) {
    return c < 0x80 && (std::isalnum(c) != 0 || c == '-' || c == '_' || c == '.');
  });
  if (service.name.empty() || service.name.size() > kLongestServiceName || !plain || service.name[0] == '.' ||
      service.name[0] == '-') {
    services.fault(service.name, "not a name for a service: use up to " +
                                     std::to_string(kLongestServiceName) +
                                     " letters, digits, '-', '_' and '.', not '-' or '.' in front");
  }
  check_listen(section, service, claims);
  section.bounded("limits.max_connections", service.limits.max_connections, 1, 10'000'000);
  section.bounded("limits.connect_timeout", service.limits.connect_timeout, 1ms, 1h);
  section.bounded("limits.idle_timeout", service.limits.idle_timeout, 0s, 8760h);
  check_backend(section.in("backend"), service.backend);
  check_health(section.in("health"), service.health, service.backend.address);
  section.bounded("rollover.graceful_timeout", service.rollover.graceful_timeout, 0s, 8760h);
  section.bounded("rollover.max_old_generations", service.rollover.max_old_generations, 1, 100);
  section.bounded("hold.max_connections", service.hold.max_connections, 1, 10'000'000);
  section.bounded("hold.timeout", service.hold.timeout, 1ms, 24h);
  section.bounded("hold.release_rate", service.hold.release_rate, 0, 1'000'000);
  const Duration longest =
      std::max(service.rollover.graceful_timeout, service.rollover.tunnel_timeout.value_or(Duration::zero()));
  if (service.rollover.close_spread > longest) {
    const bool tunnels = longest > service.rollover.graceful_timeout;
    section.fault("rollover.close_spread",
                  std::string("longer than graceful_timeout ") + (tunnels ? "and tunnel_timeout (" : "(") +
                      format_duration(service.rollover.close_spread) + " and " + format_duration(longest) +
                      "), at whose end everything is closed: make it at most as long");
  }
  if (service.rollover.tunnel_timeout) {
    section.bounded("rollover.tunnel_timeout", *service.rollover.tunnel_timeout, 0s, 8760h);
  }
  if (service.protocol == Protocol::kTcp) {
    const std::string cure = "has no effect with 'protocol: tcp': write 'protocol: http', or remove it";
    if (service.forwarded_headers) section.fault("forwarded_headers", cure);
    if (service.rollover.tunnel_timeout) section.fault("rollover.tunnel_timeout", cure);
  }
  check_transparent(section, service);
  section.add(faults_of_handoff(service));
  section.add(faults_of_steering(service));
  section.add(target_faults(service));
}

}  // namespace

std::vector<KeyFault> check(const Config& config) {
  std::vector<KeyFault> faults;
  const Section root("", faults);
  check_control(root.in("control"), config.control);
  if (config.threads != 0) root.bounded("threads", config.threads, 1, 256);
  if (config.services.empty())
    root.fault("services", "there is no service: give at least one, as in " + std::string(kExample));
  Claims claims;
  for (const Service& service : config.services) check_service(root.in("services"), service, claims);
  refuse_what_is_not_built(config, faults);
  return faults;
}

}  // namespace relayd::config
