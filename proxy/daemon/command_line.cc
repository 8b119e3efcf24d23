#include "proxy/daemon/command_line.h"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <map>

#include "control/protocol/version.h"
#include "proxy/config/checks.h"
#include "proxy/config/loader.h"
#include "proxy/daemon/exit_codes.h"

namespace relayd {
namespace {

// The flags as they come; turned into a configuration by config_from().
struct Flags {
  std::string config_file;
  bool check = false;
  std::vector<std::string> listen;
  std::string mode, instances, health_path, graceful_timeout, ready_timeout, address, protocol;
  std::string control, pid_file, admin, threads, log_level, log_format;
};

// Which flag sets which key, so that a fault found by key is told by flag.
const std::map<std::string, std::string>& flag_of_key() {
  static const std::map<std::string, std::string> flags{
      {"services.default.listen", "--listen"},
      {"services.default.rollover.mode", "--mode"},
      {"services.default.backend.instances", "--instances"},
      {"services.default.backend.command", "the command after --"},
      {"services.default.backend.address", "--address"},
      {"services.default.health.path", "--health-path"},
      {"services.default.health.ready_timeout", "--ready-timeout"},
      {"services.default.rollover.graceful_timeout", "--graceful-timeout"},
      {"services.default.protocol", "--protocol"},
      {"admin.listen", "--admin"},
      {"admin", "--admin"},
      {"control.socket", "--control"},
      {"pid_file", "--pid-file"},
      {"threads", "--threads"},
  };
  return flags;
}

std::string named_by_flag(const std::string& key) {
  std::string best = key;
  std::size_t length = 0;
  for (const auto& [prefix, flag] : flag_of_key()) {
    if (key.starts_with(prefix) && prefix.size() > length) {
      best = flag;
      length = prefix.size();
    }
  }
  return best;
}

// Collects faults of the flags' values; the first use of each target wins nothing: all are read.
class Reader {
 public:
  template <typename T, typename Parse>
  void value(const char* flag, const std::string& text, T& target, Parse parse) {
    if (text.empty()) return;
    auto parsed = parse(text);
    if (parsed) {
      target = *parsed;
    } else {
      faults.push_back(std::string(flag) + ": " + parsed.error().message);
    }
  }
  template <typename T, typename From>
  void word(const char* flag, const std::string& text, T& target, From from, const char* known) {
    if (text.empty()) return;
    if (const auto found = from(text)) {
      target = *found;
    } else {
      faults.push_back(std::string(flag) + ": '" + text + "' is not one of " + known);
    }
  }
  std::vector<std::string> faults;
};

config::Config config_from(const Flags& flags, std::vector<std::string> command,
                           std::vector<std::string>& faults) {
  config::Config config;
  config::Service& service = config.services.emplace_back();
  service.name = "default";
  service.listen = flags.listen;
  service.backend.command = std::move(command);
  service.health.path = flags.health_path;
  config.control.socket = flags.control;
  config.pid_file = flags.pid_file;
  config.admin_listen = flags.admin;
  Reader reader;
  reader.word("--mode", flags.mode, service.rollover.mode, config::mode_from, "phased, hot, restart");
  reader.word("--address", flags.address, service.backend.address, config::address_kind_from,
              "port, socket, activation, handoff");
  reader.word("--protocol", flags.protocol, service.protocol, config::protocol_from, "auto, http, tcp");
  reader.word("--log-level", flags.log_level, config.log.level, config::log_level_from,
              "debug, info, warn, error");
  reader.word("--log-format", flags.log_format, config.log.format, config::log_format_from, "text, json");
  reader.value("--instances", flags.instances, service.backend.instances, config::parse_count);
  reader.value("--threads", flags.threads, config.threads, config::parse_threads);
  reader.value("--graceful-timeout", flags.graceful_timeout, service.rollover.graceful_timeout,
               config::parse_duration);
  reader.value("--ready-timeout", flags.ready_timeout, service.health.ready_timeout, config::parse_duration);
  faults = std::move(reader.faults);
  for (const config::KeyFault& fault : config::check(config)) {
    faults.push_back(named_by_flag(fault.key) + ": " + fault.message);
  }
  return config;
}

void define_flags(CLI::App& app, Flags& flags) {
  app.set_version_flag("--version", "relayd " + std::string(control::version()));
  app.add_option("--config,-c", flags.config_file, "Services from this YAML file")->type_name("FILE");
  app.add_flag("--check", flags.check, "Only check the configuration: exit 0, or 1 and what is wrong where");
  const std::string one = "One service from the command line";
  app.add_option("--listen,-l", flags.listen,
                 "Public address: :8080, 127.0.0.1:8080, [::1]:8080, unix:/path; may be repeated")
      ->type_name("ADDRESS")
      ->take_all()
      ->group(one);
  const auto text = [&app, &one](const char* names, std::string& target, const char* help, const char* type) {
    app.add_option(names, target, help)->type_name(type)->group(one);
  };
  text("--mode", flags.mode, "How it is rolled over: phased (default), hot, restart", "MODE");
  text("--instances", flags.instances, "Processes of the command (1)", "N");
  text("--health-path", flags.health_path, "Ready once GET of this path answers 2xx", "PATH");
  text("--graceful-timeout", flags.graceful_timeout,
       "How long an old generation may finish what it has (30s)", "TIME");
  text("--ready-timeout", flags.ready_timeout, "How long a new generation may take to get ready (30s)",
       "TIME");
  text("--address", flags.address, "How the command listens: port (default), socket", "KIND");
  text("--protocol", flags.protocol, "What clients speak: auto (default), http, tcp", "NAME");
  text("--control", flags.control, "The control socket, for relayctl", "PATH");
  text("--pid-file", flags.pid_file, "Write relayd's PID here", "FILE");
  text("--admin", flags.admin, "Metrics and health pages", "ADDRESS");
  text("--threads", flags.threads, "Data-path threads (auto: the CPUs it may use)", "N");
  text("--log-level", flags.log_level, "debug, info (default), warn, error", "LEVEL");
  text("--log-format", flags.log_format, "text (default), json", "FORMAT");
  app.footer(
      "Examples:\n"
      "  relayd --config relayd.yaml\n"
      "  relayd --check --config relayd.yaml\n"
      "  relayd --listen :8080 --health-path /up -- gunicorn app:app --bind {address}\n"
      "In the command, {address} {host} {port} {socket} {generation} {instance} are filled in for each "
      "process.\n"
      "Signals: HUP rolls over, TERM drains and stops, INT stops fast, USR1 reopens the log, WINCH pauses,\n"
      "TTIN and TTOU add and take away an instance. relayctl does all of that and shows what goes on.");
}

int report(const std::vector<std::string>& faults, bool check) {
  for (const std::string& fault : faults) std::fprintf(stderr, "%s\n", fault.c_str());
  return check ? kExitFailed : kExitUsage;
}

std::expected<CommandLine, Exit> usage(const std::string& message) {
  std::fprintf(stderr, "relayd: %s\nTry: relayd --help\n", message.c_str());
  return std::unexpected(Exit{kExitUsage});
}

}  // namespace

void apply_overrides(const CommandLine& line, config::Config& config) {
  if (!line.control_socket.empty()) config.control.socket = line.control_socket;
  if (!line.pid_file.empty()) config.pid_file = line.pid_file;
}

std::expected<CommandLine, Exit> parse_command_line(int argc, char** argv) {
  // Everything after the first "--" is the app's command, as it is.
  int own = argc;
  for (int i = 1; i < argc && own == argc; ++i) {
    if (std::string_view(argv[i]) == "--") own = i;
  }
  const bool has_command = own < argc;
  std::vector<std::string> command;
  for (int i = own + 1; i < argc; ++i) command.emplace_back(argv[i]);

  Flags flags;
  CLI::App app{
      "relayd holds the public ports and replaces the application behind them without losing a request."};
  app.name("relayd");
  define_flags(app, flags);
  try {
    app.parse(own, argv);
  } catch (const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return std::unexpected(Exit{app.exit(e)});
    return usage(e.what());
  }

  CommandLine line;
  std::vector<std::string> faults;
  if (!flags.config_file.empty()) {
    if (has_command || !flags.listen.empty())
      return usage("give either --config FILE or --listen ADDRESS -- COMMAND");
    for (const std::string* flag :
         {&flags.mode, &flags.instances, &flags.health_path, &flags.graceful_timeout, &flags.ready_timeout,
          &flags.address, &flags.protocol, &flags.admin, &flags.threads, &flags.log_level,
          &flags.log_format}) {
      if (!flag->empty())
        return usage(
            "with --config, what a service is like stands in the file; only --control and "
            "--pid-file may be given beside it");
    }
    config::Loaded loaded = config::load_file(flags.config_file);
    for (const config::Fault& fault : loaded.faults) faults.push_back(fault.to_string());
    line.config = std::move(loaded.config);
    line.config_file = flags.config_file;
    line.control_socket = flags.control;
    line.pid_file = flags.pid_file;
    apply_overrides(line, line.config);
  } else {
    if (flags.listen.empty()) return usage("give --config FILE, or --listen ADDRESS -- COMMAND");
    if (command.empty())
      return usage("--listen needs the app's command after --, as in: relayd --listen :8080 -- ./app");
    line.config = config_from(flags, std::move(command), faults);
    for (std::string& fault : faults) fault = "relayd: " + fault;
  }
  if (!faults.empty()) return std::unexpected(Exit{report(faults, flags.check)});
  if (flags.check) {
    std::printf("%s: ok, %zu service%s\n",
                flags.config_file.empty() ? "command line" : flags.config_file.c_str(),
                line.config.services.size(), line.config.services.size() == 1 ? "" : "s");
    return std::unexpected(Exit{kExitClean});
  }
  return line;
}

}  // namespace relayd
