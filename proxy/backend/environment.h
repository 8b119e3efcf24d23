#pragma once

#include <map>
#include <string>
#include <string_view>

#include "proxy/base/error.h"
#include "proxy/config/config.h"

// What an app finds in its environment before relayd adds the instance's own names (launch.h).
namespace relayd::backend {

using Environment = std::map<std::string, std::string>;

// Parses the text of an env_file, by the rules of systemd's EnvironmentFile (systemd.exec(5)):
//   KEY=VALUE lines; blank lines and lines that begin with # or ; are skipped; a # later in a value is part
//   of it; space around a value is cut; 'single quotes' keep everything; in "double quotes" a backslash
//   escapes " \ ` $ and a line's end; quoted values may span lines; a backslash at the end of an unquoted
//   line continues it, elsewhere it takes the next character as it is; the last of two equal keys wins.
//   Nothing is expanded, as in Docker's --env-file.
// Where systemd would skip a line that it cannot read, this is an error that begins with "name:line: ".
Result<Environment> parse_env_file(std::string_view text, const std::string& name);
// Reads and parses the file; at most 1 MiB.
Result<Environment> read_env_file(const std::string& path);

// The environment of a new generation's definition: backend.env, then the env_file as it is now, then
// `overrides` (relayctl rollover --env); later ones win. The result's values are templates; those of the
// env_file and of `overrides` are taken literally, so that a password or JSON with braces in it survives. An
// override of what relayd sets itself, or that is no name, is an error (EINVAL).
Result<Environment> definition_environment(const config::Backend& backend, const Environment& overrides);

// relayd's own environment without what belongs to relayd alone: LISTEN_*, NOTIFY_SOCKET, WATCHDOG_*,
// RELAY_*.
Environment inherited_environment(const char* const* environ_block);

}  // namespace relayd::backend
