#include "control/relayctl/output.h"

#include <unistd.h>

#include <cstdio>

#include "control/protocol/json.h"
#include "control/relayctl/text.h"

namespace relayd::relayctl {
namespace {

void put(std::FILE* to, const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), to);
  std::fflush(to);
}

const char* name_of(ExitCode code) {
  switch (code) {
    case kExitDone:
      return "done";
    case kExitFailed:
      return "failed";
    case kExitUsage:
      return "usage";
    case kExitNoRelayd:
      return "no_relayd";
    case kExitBusy:
      return "busy";
    case kExitTimeout:
      return "timeout";
    case kExitNotPermitted:
      return "not_permitted";
    case kExitInterrupted:
    case kExitTerminated:
      return "interrupted";
  }
  return "failed";
}

}  // namespace

void print(const std::vector<std::string>& lines) {
  std::string text;
  for (const std::string& line : lines) text += line + "\n";
  put(stdout, text);
}

void print_json(std::string_view json, bool one_line) {
  const bool eyes = !one_line && ::isatty(STDOUT_FILENO) == 1;
  put(stdout, (eyes ? control::indented(json) : std::string(json)) + "\n");
}

int print_ending(const Ending& ending, bool json) {
  if (!ending.message.empty()) put(stderr, "relayctl: " + printable(ending.message, true) + "\n");
  if (json && !ending.message.empty())
    print_json(control::write_error_document(ending.code, name_of(ending.code), ending.message));
  return ending.code;
}

}  // namespace relayd::relayctl
