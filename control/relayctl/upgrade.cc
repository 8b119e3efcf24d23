#include "control/relayctl/interrupt.h"
#include "control/relayctl/output.h"
#include "control/relayctl/run.h"
#include "control/relayctl/text.h"
#include "control/relayctl/upgrade_view.h"

namespace relayd::relayctl {
namespace {

constexpr const char* kGoesOn = "the upgrade goes on in relayd: relayctl events shows how it ends";

Ending ended(const Session& session) {
  return {kExitFailed, "relayd at " + session.path() +
                           " ended before the upgrade was done: nobody answers any more; see its log"};
}

// Which relayd serves now is not to be guessed from a failure: the one that is there is asked.
Ending failed(Session& session, const std::string& reason) {
  const auto body = session.ask_now(control::VersionCall{});
  if (!body) {
    const std::string more = session.ended() ? ended(session).message : body.error().message;
    return {kExitFailed, reason + (more.empty() ? "" : "\n" + more)};
  }
  const auto info = control::read_version(*body);
  if (!info) return {kExitFailed, reason + "\n" + info.error().message};
  return {kExitFailed, "relayd " + info->version + " was not replaced and goes on: " + reason};
}

}  // namespace

std::string upgrade_line(const control::UpgradeResult& result) {
  return "relayd " + printable(result.from_version) + " was replaced by " + printable(result.to_version) +
         ": pid " + std::to_string(result.pid) + " as before, " + counted(result.connections, "connection") +
         " kept, silent for " + std::to_string(result.silence_ms) + " ms";
}

// The connection lives on while relayd becomes another executable, and the new one answers.
Ending run_upgrade(Session& session, const Options& options, const Upgrade& upgrade) {
  watch_interrupts();
  Deadline until;
  if (options.timeout) until = monotonic_now() + *options.timeout;
  const auto body = session.ask(upgrade.call, until);
  if (!body) {
    Ending ending = body.error();
    if (ending.code == kExitFailed) return failed(session, ending.message);
    if (session.ended()) return ended(session);
    if (ending.code == kExitTimeout) {
      ending.message = "--timeout passed after " + human_duration(options.timeout->count()) + "; " + kGoesOn;
    } else if (ending.code == kExitInterrupted || ending.code == kExitTerminated) {
      ending.message = std::string("no longer waiting; ") + kGoesOn;
    }
    return ending;
  }
  if (options.json) return print_json(*body), Ending{};
  const auto result = control::read_upgrade(*body);
  if (!result) return {kExitFailed, result.error().message};
  print({upgrade_line(*result)});
  return {};
}

}  // namespace relayd::relayctl
