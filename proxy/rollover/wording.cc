#include "proxy/rollover/wording.h"

namespace relayd::rollover {
namespace {

using Kind = action::Note::Kind;

// As the control protocol names it.
const char* type_of(Kind kind) {
  switch (kind) {
    case Kind::kGenerationStarting:
      return "generation_starting";
    case Kind::kGenerationReady:
      return "generation_ready";
    case Kind::kSwitched:
      return "switched";
    case Kind::kHolding:
      return "holding";
    case Kind::kReleased:
      return "released";
    case Kind::kDraining:
      return "draining";
    case Kind::kDrained:
      return "drained";
    case Kind::kCut:
      return "cut";
    case Kind::kGenerationStopped:
      return "generation_stopped";
    case Kind::kRolloverStarted:
      return "rollover_started";
    case Kind::kRolloverFailing:
      return "rollover_failing";
    case Kind::kRestoring:
      return "restoring";
    case Kind::kInstanceExited:
      return "instance_exited";
    case Kind::kInstanceStopped:
      return "instance_stopped";
    case Kind::kInstanceRestarting:
      return "instance_restarting";
    case Kind::kInstanceReady:
      return "instance_ready";
    case Kind::kInstanceUnhealthy:
      return "instance_unhealthy";
    case Kind::kInstanceHealthy:
      return "instance_healthy";
    case Kind::kInstanceKilled:
      return "instance_killed";
    case Kind::kPaused:
      return "paused";
    case Kind::kResumed:
      return "resumed";
    case Kind::kScaled:
      return "scaled";
  }
  return "?";
}

std::string instance_name(GenerationNumber generation, int instance) {
  return "generation " + std::to_string(generation) +
         (instance >= 0 ? " instance " + std::to_string(instance) : "");
}

std::string sentence(const action::Note& note, const std::string& name) {
  switch (note.kind) {
    case Kind::kGenerationStarting:
      return name + " starts";
    case Kind::kGenerationReady:
      return name + " is ready";
    case Kind::kSwitched:
      return "new connections go to " + name;
    case Kind::kHolding:
      return "no instance is ready: new connections are held";
    case Kind::kReleased:
      return "connections go to " + name;
    case Kind::kDraining:
      return name + " drains";
    case Kind::kDrained:
      return name + " has no connection left";
    case Kind::kCut:
      return "what is left on " + name + " is closed";
    case Kind::kGenerationStopped:
      return name + " has stopped";
    case Kind::kRolloverStarted:
      return note.text + " rollover from " + name;
    case Kind::kRolloverFailing:
      return name + " will not serve";
    case Kind::kRestoring:
      return "the definition of " + name + " is started again";
    case Kind::kInstanceExited:
      return name + " failed";
    case Kind::kInstanceStopped:
      return name + " has ended";
    case Kind::kInstanceRestarting:
      return name + " is started again";
    case Kind::kInstanceReady:
      return name + " is ready";
    case Kind::kInstanceUnhealthy:
      return name + " fails its checks";
    case Kind::kInstanceHealthy:
      return name + " is healthy again";
    case Kind::kInstanceKilled:
      return name + " is killed";
    case Kind::kPaused:
      return "paused: nothing runs, new connections are held";
    case Kind::kResumed:
      return "resumed";
    case Kind::kScaled:
      return name + " gets " + note.text + " instances";
  }
  return name;
}

// What stands between the sentence and the note's text; null where the sentence has it already.
const char* joint(Kind kind) {
  switch (kind) {
    case Kind::kRolloverStarted:
    case Kind::kScaled:
      return nullptr;
    case Kind::kInstanceRestarting:
    case Kind::kDraining:
    case Kind::kSwitched:
    case Kind::kGenerationStarting:
      return " ";
    default:
      return ": ";
  }
}

}  // namespace

std::string first_line(const std::string& text) { return text.substr(0, text.find('\n')); }

Happening describe(const action::Note& note) {
  Happening happening;
  happening.type = type_of(note.kind);
  happening.generation = note.generation;
  happening.instance = note.instance;
  happening.message = sentence(note, instance_name(note.generation, note.instance));
  if (const char* between = joint(note.kind); between != nullptr && !note.text.empty()) {
    happening.message += between + first_line(note.text);
    happening.details["text"] = note.text;
  }
  if (note.kind == Kind::kRolloverStarted) happening.details["mode"] = note.text;
  return happening;
}

Happening describe(const Report& report, GenerationNumber serves) {
  const std::string mode = config::to_string(report.mode);
  const std::string duration = std::to_string(report.duration.count());
  Happening happening;
  happening.type = std::string("rollover_") + to_string(report.outcome);
  happening.generation = report.to;
  happening.details = {{"mode", mode},
                       {"from", std::to_string(report.from)},
                       {"to", std::to_string(report.to)},
                       {"duration_ms", duration}};
  if (!report.reason.empty()) happening.details["reason"] = report.reason;
  if (report.outcome == Outcome::kDone) {
    happening.message = mode + " rollover from generation " + std::to_string(report.from) + " to " +
                        std::to_string(report.to) + " done in " + duration + " ms";
  } else {
    happening.message = mode + " rollover " + to_string(report.outcome) + ": " + first_line(report.reason);
    happening.message += serves != 0 ? "; generation " + std::to_string(serves) + " serves"
                                     : "; no instance is ready: clients are held";
  }
  return happening;
}

void add_counts(Happening& happening, const net::ServiceCounts& counts) {
  happening.details["requests"] = std::to_string(counts.requests);
  happening.details["crossings"] = std::to_string(counts.crossings);
  happening.details["sent_again"] = std::to_string(counts.sent_again);
  happening.details["answered"] = std::to_string(counts.answered);
}

}  // namespace relayd::rollover
