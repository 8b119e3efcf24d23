#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "proxy/backend/environment.h"
#include "proxy/backend/instance.h"
#include "proxy/backend/spawn.h"
#include "proxy/backend/template.h"

// From a definition to the processes of one instance: templates, environment, limits. Pure.
namespace relayd::backend {

struct Placement {
  std::uint32_t generation = 0;
  std::uint16_t instance = 0;
  SocketAddress address;
  std::string notify_socket;
  bool own_address = true;  // false: `handoff`, where the public sockets are all that it listens on
};

// {generation} and {instance}; with an own address {address}, and by its kind {host} {port} or {socket}.
TemplateValues template_values(const Placement& placement);

// What the app and its check command have in common; `inherited` is relayd's own environment, cleaned.
// Everything but the command, and what a process that gets sockets is told of them (spawn.h), is filled in.
// Later ones win: inherited, the user's HOME, USER and LOGNAME, the definition's, relayd's.
Result<Program> program_frame(const Definition& definition, const Placement& placement,
                              const std::optional<Identity>& identity, const rlimit& original_nofile,
                              const Environment& inherited);

// `command` with its templates replaced; the error names the argument. `key` is "backend.command" or
// "health.command".
Result<std::vector<std::string>> expand_command(const std::vector<std::string>& command,
                                                const std::string& key, const Placement& placement);

// Whether the templates of the command, the check's command and the environment have values for an instance
// of this definition: to be asked before anything of an older one is touched. The error names the key.
Result<void> check_templates(const Definition& definition);

}  // namespace relayd::backend
