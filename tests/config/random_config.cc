#include "tests/config/random_config.h"

#include <iterator>

#include "proxy/config/names.h"

namespace relayd::config {
namespace {

constexpr std::string_view kTelling[] = {"null",
                                         "~",
                                         "yes",
                                         "no",
                                         "on",
                                         "true",
                                         "0",
                                         "1.5",
                                         "0x10",
                                         "0600",
                                         ".inf",
                                         "2001-01-01",
                                         "<<",
                                         "---",
                                         "...",
                                         "- a",
                                         "? a",
                                         "a: b",
                                         " #c",
                                         "{a: b}",
                                         "[a]",
                                         "{address}",
                                         "\"",
                                         "'",
                                         "\\",
                                         "\\x00",
                                         "\\u0",
                                         "\n",
                                         "\r\n",
                                         "\n\n  ",
                                         "\t",
                                         " ",
                                         "  ",
                                         "!tag",
                                         "!bytes",
                                         "&a",
                                         "*a",
                                         "|",
                                         ">",
                                         "%",
                                         "@",
                                         "`",
                                         ",",
                                         ":",
                                         "\x01",
                                         "\x04",
                                         "\x1b",
                                         "\x7f",
                                         "\u0080",
                                         "\u0085",
                                         "\u00a0",
                                         "é",
                                         "日本",
                                         "\u2028",
                                         "\ufeff",
                                         "\ufffe",
                                         "\uffff",
                                         "😀",
                                         "\xff",
                                         "\xc3",
                                         "\xc0\x80",
                                         "\xed\xa0\x80",
                                         "\xf4\x90\x80\x80",
                                         "=",
                                         "$"};

// Draws values until one is not the default.
class Draw {
 public:
  explicit Draw(std::mt19937& random) : random_(random) {}

  unsigned below(unsigned limit) { return static_cast<unsigned>(random_() % limit); }

  template <typename T>
  void operator()(T& value) {
    const T before = value;
    while (value == before) any(value);
  }
  // A whole number, 0 to `most`.
  template <typename T>
  void number(T& value, std::uint64_t most) {
    const T before = value;
    while (value == before) value = static_cast<T>(random_() % (most + 1));
  }

 private:
  void any(std::string& value) { value = hostile_text(random_); }
  void any(bool& value) { value = below(2) == 1; }
  void any(unsigned& value) {
    constexpr unsigned kTellingNumbers[] = {0, 1, 7, 8, 4294967295U};
    value =
        below(2) == 0 ? kTellingNumbers[below(std::size(kTellingNumbers))] : static_cast<unsigned>(random_());
  }
  void any(Duration& value) {
    constexpr long kYear = 8760L * 3'600'000;  // parse_duration()'s longest
    constexpr long kTellingTimes[] = {0, 1, 999, 1000, 60'000, 3'600'000, kYear};
    value = Duration(below(2) == 0 ? kTellingTimes[below(std::size(kTellingTimes))]
                                   : static_cast<long>(random_() % static_cast<unsigned long>(kYear)));
  }
  void any(std::optional<Duration>& value) { any(value.emplace()); }
  void any(std::vector<std::string>& value) {
    value.assign(below(4), "");
    for (std::string& item : value) {
      if (below(4) != 0) any(item);
    }
  }
  void any(std::map<std::string, std::string>& value) {
    value.clear();
    for (unsigned left = below(4); left > 0; --left)
      value[hostile_text(random_)] = below(3) == 0 ? "" : hostile_text(random_);
  }
  void any(Amount& value) {
    value.percent = below(2) == 0;
    value.value = value.percent ? below(101) : static_cast<unsigned>(random_());
  }
  template <typename E>
  requires std::is_enum_v<E>
  void any(E& value) { value = kNames<E>[below(kNames<E>.size())].value; }

  std::mt19937& random_;
};

// Each takes its struct apart as a whole: a new member does not compile until it is drawn here.
void fill(Draw& draw, Control& value) {
  auto& [socket, mode, group] = value;
  draw(socket);
  draw.number(mode, 0777);
  draw(group);
}

void fill(Draw& draw, Log& value) {
  auto& [level, format, file] = value;
  draw(level);
  draw(format);
  draw(file);
}

void fill(Draw& draw, ProxyProtocolOptions& value) {
  auto& [accept, send] = value;
  draw(accept);
  draw(send);
}

void fill(Draw& draw, ServiceLimits& value) {
  auto& [max_connections, connect_timeout, idle_timeout] = value;
  draw(max_connections);
  draw(connect_timeout);
  draw(idle_timeout);
}

void fill(Draw& draw, RestartDelay& value) {
  auto& [min, max] = value;
  draw(min);
  draw(max);
}

void fill(Draw& draw, Backend& value) {
  auto& [command, address, steering, targets, instances, balance, directory, env, env_file, user, group,
         nofile, stop_signal, stop, kill_timeout, restart_delay] = value;
  draw(command);
  draw(address);
  draw(steering);
  draw(targets);
  draw(instances);
  draw(balance);
  draw(directory);
  draw(env);
  draw(env_file);
  draw(user);
  draw(group);
  nofile = 0;
  draw.number(*nofile, 4294967295U);
  constexpr int kSignals[] = {1, 2, 3, 6, 9, 10, 12, 14, 28};  // those with a name, but TERM
  stop_signal = kSignals[draw.below(std::size(kSignals))];
  draw(stop);
  draw(kill_timeout);
  fill(draw, restart_delay);
}

void fill(Draw& draw, Health& value) {
  auto& [check, path, command, interval, timeout, ready_timeout] = value;
  draw(check);
  draw(path);
  draw(command);
  draw(interval);
  draw(timeout);
  draw(ready_timeout);
}

void fill(Draw& draw, Rollover& value) {
  auto& [mode, graceful_timeout, tunnel_timeout, close_spread, surge, canary, monitor, failure_action,
         max_old_generations] = value;
  draw(mode);
  draw(graceful_timeout);
  draw(tunnel_timeout);
  draw(close_spread);
  draw(surge);
  draw.number(canary, 100);
  draw(monitor);
  draw(failure_action);
  draw(max_old_generations);
}

void fill(Draw& draw, Hold& value) {
  auto& [max_connections, timeout, release_rate] = value;
  draw(max_connections);
  draw(timeout);
  draw(release_rate);
}

void fill(Draw& draw, Service& value) {
  auto& [name, listen, protocol, proxy_protocol, forwarded_headers, transparent, limits, backend, health,
         rollover, hold] = value;
  draw(name);
  draw(listen);
  draw(protocol);
  fill(draw, proxy_protocol);
  draw(forwarded_headers);
  draw(transparent);
  fill(draw, limits);
  fill(draw, backend);
  fill(draw, health);
  fill(draw, rollover);
  fill(draw, hold);
}

}  // namespace

std::string hostile_text(std::mt19937& random) {
  std::string text;
  for (unsigned parts = 1 + random() % 4; parts > 0; --parts) {
    if (random() % 4 == 0) {
      text.push_back(static_cast<char>(1 + random() % 255));
    } else {
      text += kTelling[random() % std::size(kTelling)];
    }
  }
  if (random() % 100 == 0) text.append(random() % 5000, 'x');  // longer than a simple key of YAML
  return text;
}

Config random_config(std::mt19937& random) {
  Draw draw(random);
  Config config;
  auto& [control, admin_listen, log, pid_file, threads, services] = config;
  fill(draw, control);
  draw(admin_listen);
  fill(draw, log);
  draw(pid_file);
  draw(threads);
  services.resize(1 + draw.below(3));
  for (std::size_t i = 0; i < services.size(); ++i) {
    fill(draw, services[i]);
    services[i].name += std::to_string(i);
  }
  return config;
}

}  // namespace relayd::config
