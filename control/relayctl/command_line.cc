#include "control/relayctl/command_line.h"

#include <CLI/CLI.hpp>
#include <charconv>
#include <filesystem>
#include <system_error>

#include "control/protocol/nearest.h"
#include "control/protocol/version.h"
#include "control/relayctl/duration.h"

namespace relayd::relayctl {
namespace {

constexpr const char* kAbout =
    "relayctl drives a running relayd: it replaces the app behind it without losing a connection.\n"
    "\n"
    "  relayctl status                          what serves, what drains, for how long\n"
    "  relayctl rollover web                    start a new generation, switch to it, drain the old one\n"
    "  relayctl rollover web --until drained    the same, and wait until the old one is gone\n";

constexpr const char* kExits =
    "Exit codes: 0 done; 1 failed, and the old generation serves (upgrade: the old relayd); 2 usage;\n"
    "  3 no relayd at the socket; 4 refused, another rollover is in progress; 5 --timeout passed, and it "
    "goes\n"
    "  on; 6 not permitted.\n"
    "The socket: --socket PATH, or RELAYD_SOCKET, or the place where relayd puts it if it is not told.";

// Everything that flags write to, before it becomes Options.
struct Raw {
  std::string socket, service, mode, until = "ready", timeout, canary;
  std::optional<std::string> binary;
  std::vector<std::string> env, targets, scale;
  std::optional<std::uint32_t> generation;
  unsigned recent = 50;
  bool json = false, watch = false, dry_run = false, follow = false, now = false, no_wait = false;
};

CLI::App* verb(CLI::App& app, const char* name, const std::string& about, const std::string& examples) {
  CLI::App* sub = app.add_subcommand(name, about);
  sub->fallthrough();
  sub->footer("Examples:\n" + examples + "\n" + kExits);
  return sub;
}

void add_service(CLI::App* sub, Raw& raw) {
  sub->add_option("SERVICE", raw.service, "The service; may be left out when there is one")->type_name("");
}
void add_json(CLI::App* sub, Raw& raw, const char* about = "Print one JSON document instead of text") {
  sub->add_flag("--json", raw.json, about);
}

void add_rollover(CLI::App& app, Raw& raw) {
  CLI::App* sub =
      verb(app, "rollover", "Replace the serving generation by a new one; no connection is refused or lost",
           "  relayctl rollover web\n"
           "  relayctl rollover web --mode hot --until drained --timeout 2m\n"
           "  relayctl rollover web --env GIT_SHA=4f2a91c --json\n"
           "  relayctl rollover web --target 10.0.0.6:8000 --until drained && docker rm -f web-1\n"
           "  relayctl rollover web --dry-run\n");
  add_service(sub, raw);
  sub->add_option(
         "--mode", raw.mode,
         "phased: start the new one first; hot: hold new connections and stop the old one first; restart: "
         "stop the old one at once. Default: as configured")
      ->type_name("MODE");
  sub->add_option("--env", raw.env, "An environment variable for the new generation only; may be repeated")
      ->type_name("NAME=VALUE")
      ->take_all()
      ->allow_extra_args(false);
  sub->add_option(
      "--until", raw.until,
      "ready: return when the new generation serves (the default); drained: when the old one is gone");
  sub->add_option("--timeout", raw.timeout,
                  "Wait at most this long (30s, 2m), then exit 5; the rollover goes on")
      ->type_name("DURATION");
  sub->add_flag("--dry-run", raw.dry_run, "Print what would be done, in order, and do nothing");
  sub->add_option("--target", raw.targets,
                  "An address of the new generation, which someone else runs (host:port, unix:/path); may be "
                  "repeated. "
                  "Default: as configured")
      ->type_name("ADDRESS")
      ->take_all()
      ->allow_extra_args(false);
  sub->add_option("--canary", raw.canary,
                  "Not in this version yet: the new generation's share of new connections");
  add_json(sub, raw);
}

void add_simple(CLI::App& app, Raw& raw) {
  add_service(verb(app, "abort", "Cancel the rollover in progress; the old generation goes on serving",
                   "  relayctl abort web\n"),
              raw);
  add_service(verb(app, "pause", "Stop the app gracefully and hold its clients until resume",
                   "  relayctl pause web && ./migrate-database && relayctl resume web\n"),
              raw);
  add_service(
      verb(app, "resume", "Start the app again and let the held clients go to it", "  relayctl resume web\n"),
      raw);
  CLI::App* scale =
      verb(app, "scale", "Set the number of instances of a service",
           "  relayctl scale 4            (when there is one service)\n  relayctl scale web 4\n");
  scale->add_option("[SERVICE] N", raw.scale, "The service, and how many instances it shall have")
      ->expected(1, 2)
      ->required();
  const std::pair<const char*, const char*> later[] = {
      {"promote", "Not in this version yet: let a canary take all connections"},
      {"rollback", "Not in this version yet: back to the warm old generation"},
      {"doctor", "Not in this version yet: look for what would bite under load"}};
  for (const auto& [name, about] : later) {
    CLI::App* sub = verb(app, name, about, std::string("  relayctl ") + name + "\n");
    if (std::string(name) != "doctor") add_service(sub, raw);
  }
}

void add_upgrade(CLI::App& app, Raw& raw) {
  CLI::App* sub = verb(app, "upgrade",
                       "Replace relayd's own executable while it runs: same process, no connection is lost; "
                       "if that fails, the old relayd goes on",
                       "  apt-get install relayd && relayctl upgrade\n"
                       "  relayctl upgrade --binary ./build/relayd --timeout 30s\n"
                       "  relayctl upgrade --json | jq .to_version\n");
  // A function: CLI11 takes an empty word for an optional that has no value.
  sub->add_option_function<std::string>(
         "--binary", [&raw](const std::string& path) { raw.binary = path; },
         "The executable to become; default: what is now at the path that relayd was started from")
      ->type_name("PATH");
  sub->add_option("--timeout", raw.timeout,
                  "Wait at most this long (30s, 2m), then exit 5; the upgrade goes on")
      ->type_name("DURATION");
  add_json(sub, raw);
}

void add_verbs(CLI::App& app, Raw& raw) {
  CLI::App* status = verb(app, "status", "What serves, what drains, and how the last rollover went",
                          "  relayctl status\n  relayctl status web --watch\n"
                          "  relayctl status --json | jq -r '.services[].phase'\n");
  add_service(status, raw);
  status->add_flag("--watch", raw.watch, "Draw it again twice a second, until ctrl-C");
  add_json(status, raw, "Print one JSON document (with --watch: one a line)");
  add_rollover(app, raw);
  add_simple(app, raw);
  add_json(verb(app, "reload", "Read the configuration again; only services that changed are rolled over",
                "  relayctl reload\n  relayd --check --config relayd.yaml && relayctl reload\n"),
           raw);
  add_upgrade(app, raw);
  CLI::App* connections = verb(app, "connections", "The connections that are open, and who serves them",
                               "  relayctl connections web --generation 6\n"
                               "  relayctl connections --json | jq '.connections | length'\n");
  add_service(connections, raw);
  connections->add_option("--generation", raw.generation, "Only those of this generation");
  add_json(connections, raw);
  CLI::App* events = verb(app, "events", "What has happened, and with --follow what happens",
                          "  relayctl events --follow\n  relayctl events --recent 5 --json\n");
  add_service(events, raw);
  events->add_flag("--follow", raw.follow, "Go on with every new event, until ctrl-C");
  events->add_option("--recent", raw.recent, "How many of the kept events to print first; default 50");
  add_json(events, raw, "Print one JSON document a line");
  CLI::App* stop =
      verb(app, "stop", "Stop relayd: no new connections, drain, stop the apps; returns when it has ended",
           "  relayctl stop                  (a preStop hook)\n  relayctl stop --now\n");
  stop->add_flag("--now", raw.now, "Cut every connection instead of draining");
  stop->add_flag("--no-wait", raw.no_wait, "Return as soon as relayd has begun to stop");
  stop->add_option("--timeout", raw.timeout, "Wait at most this long (30s, 2m), then exit 5; it goes on")
      ->type_name("DURATION");
}

std::unexpected<Ending> usage(std::string message) {
  return std::unexpected(Ending{kExitUsage, std::move(message)});
}

std::expected<std::map<std::string, std::string>, Ending> read_env(const std::vector<std::string>& pairs) {
  std::map<std::string, std::string> env;
  for (const std::string& pair : pairs) {
    const std::size_t equals = pair.find('=');
    if (equals == std::string::npos) return usage("--env " + pair + ": write it as NAME=VALUE");
    const std::string name = pair.substr(0, equals);
    if (!control::valid_env_name(name)) {
      return usage("--env " + pair + ": \"" + name +
                   "\" cannot name an environment variable; use letters, digits and _");
    }
    if (!env.emplace(name, pair.substr(equals + 1)).second) return usage("--env " + name + " is given twice");
  }
  return env;
}

std::expected<Verb, Ending> read_rollover(const Raw& raw) {
  if (!raw.canary.empty())
    return usage("rollover --canary is not in this version yet: canary rollovers and promote");
  Rollover rollover;
  rollover.call.service = raw.service;
  rollover.call.dry_run = raw.dry_run;
  rollover.call.targets = raw.targets;
  const std::vector<std::string_view> modes{"phased", "hot", "restart"};
  if (!raw.mode.empty()) {
    if (std::find(modes.begin(), modes.end(), raw.mode) == modes.end()) {
      const std::string meant = control::nearest(raw.mode, modes);
      return usage("--mode " + raw.mode + ": give phased, hot or restart" +
                   (meant.empty() ? "" : "; is " + meant + " meant?"));
    }
    rollover.call.mode = raw.mode;
  }
  if (raw.until != "ready" && raw.until != "drained")
    return usage("--until " + raw.until + ": give ready or drained");
  rollover.call.until_drained = raw.until == "drained";
  auto env = read_env(raw.env);
  if (!env) return std::unexpected(env.error());
  rollover.call.env = std::move(*env);
  return rollover;
}

std::expected<Verb, Ending> read_scale(const Raw& raw) {
  const std::string& count = raw.scale.back();
  unsigned number = 0;
  const auto [end, error] = std::from_chars(count.data(), count.data() + count.size(), number);
  if (error != std::errc{} || end != count.data() + count.size() || number < 1 ||
      number > control::kMostInstances) {
    return usage("scale: \"" + count + "\" must be a whole number from 1 to " +
                 std::to_string(control::kMostInstances) +
                 (raw.scale.size() == 2 ? "" : "; relayctl scale [SERVICE] N"));
  }
  return Simple{control::ScaleCall{raw.scale.size() == 2 ? raw.scale.front() : "", number}};
}

std::expected<Verb, Ending> read_upgrade(const Raw& raw) {
  if (!raw.binary) return Upgrade{};
  if (raw.binary->empty()) return usage("--binary: give the path of an executable; it is empty");
  // relayd may stand in another folder.
  std::error_code error;
  const auto path = std::filesystem::absolute(*raw.binary, error);
  if (error) return usage("--binary " + *raw.binary + ": " + error.message());
  return Upgrade{{path.string()}};
}

std::expected<Verb, Ending> read_verb(const std::string& name, const Raw& raw) {
  if (name == "status") return Status{raw.service, raw.watch};
  if (name == "rollover") return read_rollover(raw);
  if (name == "abort") return Simple{control::AbortCall{raw.service}};
  if (name == "pause") return Simple{control::PauseCall{raw.service}};
  if (name == "resume") return Simple{control::ResumeCall{raw.service}};
  if (name == "scale") return read_scale(raw);
  if (name == "reload") return Reload{};
  if (name == "upgrade") return read_upgrade(raw);
  if (name == "connections") return Connections{{raw.service, raw.generation}};
  if (name == "events") return Events{raw.follow, raw.recent, raw.service};
  if (name == "stop") return Stop{raw.now, !raw.no_wait};
  return usage(name + " is not in this version yet: " + control::not_built_method(name));
}

// CLI11 says only that a word was not expected.
std::string usage_message(const CLI::App& app, const CLI::ParseError& error, int argc,
                          const char* const* argv) {
  std::vector<std::string> names;
  for (const CLI::App* sub : app.get_subcommands([](const CLI::App*) { return true; }))
    names.push_back(sub->get_name());
  const std::vector<std::string_view> views(names.begin(), names.end());
  for (int i = 1; i < argc; ++i) {
    const std::string_view word(argv[i]);
    if (word == "--socket") ++i;
    if (word.starts_with('-')) continue;
    if (std::find(names.begin(), names.end(), word) != names.end()) break;
    const std::string meant = control::nearest(word, views);
    return "there is no command \"" + std::string(word) + "\"" +
           (meant.empty() ? "; relayctl --help lists them" : "; is \"" + meant + "\" meant?");
  }
  if (argc < 2) return "give a command; relayctl --help lists them, relayctl status is a good first one";
  return std::string(error.what()) + "; relayctl --help, or COMMAND --help, says what there is";
}

}  // namespace

std::expected<Options, Ending> read_command_line(int argc, const char* const* argv) {
  CLI::App app(kAbout, "relayctl");
  Raw raw;
  app.set_version_flag("--version", "relayctl " + std::string(control::version()));
  app.add_option("--socket", raw.socket,
                 "The control socket of the relayd that is meant; before or after the command");
  app.require_subcommand(1);
  app.footer(std::string("COMMAND --help shows its options and examples.\n\n") + kExits);
  add_verbs(app, raw);
  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() != 0) return usage(usage_message(app, error, argc, argv));
    std::ostringstream text, ignored;
    app.exit(error, text, ignored);
    return std::unexpected(Ending{kExitDone, text.str()});
  }
  auto read = read_verb(app.get_subcommands().front()->get_name(), raw);
  if (!read) return std::unexpected(read.error());
  Options options{std::move(*read), raw.socket, raw.json, std::nullopt};
  if (!raw.timeout.empty()) {
    const auto timeout = parse_duration(raw.timeout);
    if (!timeout) return usage("--timeout: " + timeout.error().message);
    options.timeout = *timeout;
  }
  return options;
}

}  // namespace relayd::relayctl
