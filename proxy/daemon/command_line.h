#pragma once

#include <expected>
#include <string>

#include "proxy/config/config.h"

namespace relayd {

// What the command line asks for, with the configuration it names or spells out.
struct CommandLine {
  config::Config config;
  std::string config_file;  // empty: the second form, `relayd --listen :80 -- command`
  // Given beside --config: they win over the file, also when it is read again.
  std::string control_socket;
  std::string pid_file;
};

void apply_overrides(const CommandLine& line, config::Config& config);

struct Exit {
  int code = 0;
};

// Prints help, version, the result of --check, or what is wrong; then the exit code is all there is.
std::expected<CommandLine, Exit> parse_command_line(int argc, char** argv);

}  // namespace relayd
