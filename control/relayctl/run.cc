#include "control/relayctl/run.h"

#include <cstdlib>

#include "control/relayctl/connections_view.h"
#include "control/relayctl/interrupt.h"
#include "control/relayctl/output.h"
#include "control/relayctl/rollover_view.h"
#include "control/relayctl/terminal.h"
#include "proxy/base/runtime_directory.h"

namespace relayd::relayctl {
namespace {

Result<std::string> socket_path(const Options& options) {
  if (!options.socket.empty()) return options.socket;
  const char* given = std::getenv("RELAYD_SOCKET");
  if (given != nullptr && *given != '\0') return std::string(given);
  return default_control_socket(true);
}

Ending print_connections(const std::string& body, bool json) {
  if (json) return print_json(body), Ending{};
  const auto list = control::read_connections(body);
  if (!list) return {kExitFailed, list.error().message};
  print(connection_lines(list->connections, terminal_style()));
  return {};
}

struct Run {
  Session& session;
  const Options& options;

  Ending operator()(const Status& status) const { return run_status(session, options, status); }
  Ending operator()(const Rollover& rollover) const { return run_rollover(session, options, rollover); }
  Ending operator()(const Upgrade& upgrade) const { return run_upgrade(session, options, upgrade); }
  Ending operator()(const Events& events) const { return run_events(session, options, events); }
  Ending operator()(const Connections& connections) const {
    const auto body = session.ask_now(connections.call);
    if (!body) return body.error();
    return print_connections(*body, options.json);
  }
  Ending operator()(const Reload&) const {
    const auto body = session.ask(control::ReloadCall{});
    if (!body) return body.error();
    if (options.json) return print_json(*body), Ending{};
    const auto result = control::read_reload(*body);
    if (!result) return {kExitFailed, result.error().message};
    print(reload_lines(*result, terminal_style()));
    return {};
  }
  Ending operator()(const Simple& simple) const {
    const auto body = session.ask(simple.call);
    return body ? print_done(*body) : body.error();
  }
  Ending operator()(const Stop& stop) const {
    Deadline until;
    if (options.timeout) until = monotonic_now() + *options.timeout;
    watch_interrupts();
    const auto body = session.ask(control::StopCall{stop.now}, until);
    if (!body) return body.error().code == kExitTimeout ? still_stopping() : body.error();
    Ending told = print_done(*body);
    if (told.code != kExitDone || !stop.wait) return told;
    const auto ended = session.wait_for_end(until);
    if (!ended) {
      Ending ending = ended.error();
      if (ending.message.empty()) ending.message = "no longer waiting; relayd goes on stopping";
      return ending;
    }
    return *ended ? Ending{} : still_stopping();
  }

  Ending print_done(const std::string& body) const {
    const auto done = control::read_done(body);
    if (!done) return {kExitFailed, done.error().message};
    if (!done->message.empty()) print({printable(done->message)});
    return {};
  }
  Ending still_stopping() const { return {kExitTimeout, "--timeout passed; relayd goes on stopping"}; }
};

}  // namespace

Ending run(const Options& options) {
  const auto path = socket_path(options);
  if (!path) return {kExitNoRelayd, path.error().message};
  auto session = Session::open(*path);
  if (!session) return session.error();
  return std::visit(Run{*session, options}, options.verb);
}

}  // namespace relayd::relayctl
