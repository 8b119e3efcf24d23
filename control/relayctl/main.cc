#include <clocale>
#include <cstdio>
#include <exception>

#include "control/relayctl/command_line.h"
#include "control/relayctl/output.h"
#include "control/relayctl/run.h"

using namespace relayd::relayctl;

int main(int argc, char** argv) {
  std::setlocale(LC_ALL, "");
  try {
    const auto options = read_command_line(argc, argv);
    if (!options) {
      if (options.error().code != kExitDone) return print_ending(options.error(), false);
      std::fputs(options.error().message.c_str(), stdout);
      return kExitDone;
    }
    return print_ending(run(*options), options->json);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "relayctl: %s\n", error.what());
    return kExitFailed;
  }
}
