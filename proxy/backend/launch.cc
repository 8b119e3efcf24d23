#include "proxy/backend/launch.h"

#include <algorithm>

#include "proxy/backend/health.h"

namespace relayd::backend {

TemplateValues template_values(const Placement& placement) {
  TemplateValues values;
  values["generation"] = std::to_string(placement.generation);
  values["instance"] = std::to_string(placement.instance);
  if (!placement.own_address) return values;
  values["address"] = placement.address.to_string();
  if (placement.address.is_unix()) {
    values["socket"] = placement.address.path();
  } else {
    values["host"] = placement.address.host();
    values["port"] = std::to_string(placement.address.port());
  }
  return values;
}

Result<Program> program_frame(const Definition& definition, const Placement& placement,
                              const std::optional<Identity>& identity, const rlimit& original_nofile,
                              const Environment& inherited) {
  const config::Backend& backend = definition.service.backend;
  const TemplateValues values = template_values(placement);
  Program program;
  program.directory = backend.directory;
  program.identity = identity;
  program.nofile = backend.nofile ? rlimit{*backend.nofile, *backend.nofile} : original_nofile;
  program.env = inherited;
  if (identity && !identity->name.empty()) {
    program.env["HOME"] = identity->home;
    program.env["USER"] = program.env["LOGNAME"] = identity->name;
  }
  for (const auto& [key, text] : definition.env) {
    auto value = expand(text, values);
    if (!value) return fail("env " + key + ": " + value.error().message);
    program.env[key] = std::move(*value);
  }
  // Last: an env_file written for a fixed port must not send the app to it.
  program.env["RELAY_SERVICE"] = definition.service.name;
  program.env["RELAY_GENERATION"] = std::to_string(placement.generation);
  program.env["RELAY_INSTANCE"] = std::to_string(placement.instance);
  program.env["NOTIFY_SOCKET"] = placement.notify_socket;
  // Not beside a socket that is passed: an app that found PORT too would try to bind it.
  const bool passed = !placement.own_address || backend.address == config::AddressKind::kActivation;
  if (passed) return program;
  if (placement.address.is_unix()) {
    program.env["RELAY_SOCKET"] = placement.address.path();
  } else {
    program.env["HOST"] = placement.address.host();
    program.env["PORT"] = std::to_string(placement.address.port());
  }
  return program;
}

Result<std::vector<std::string>> expand_command(const std::vector<std::string>& command,
                                                const std::string& key, const Placement& placement) {
  const TemplateValues values = template_values(placement);
  std::vector<std::string> expanded;
  for (const std::string& argument : command) {
    auto value = expand(argument, values);
    if (!value) return fail(key + ": " + value.error().message);
    expanded.push_back(std::move(*value));
  }
  if (expanded.empty() || expanded[0].empty()) return fail(key + " is empty: name the program to run");
  return expanded;
}

Result<void> check_templates(const Definition& definition) {
  const config::Service& service = definition.service;
  const config::AddressKind kind = service.backend.address;
  const bool on_socket =
      kind == config::AddressKind::kSocket ||
      std::ranges::any_of(service.backend.targets, [](const auto& t) { return t.starts_with("unix:"); });
  const Placement anywhere{
      1, 0, on_socket ? SocketAddress::unix_path("/app.sock").value() : SocketAddress::loopback(1), "@notify",
      kind != config::AddressKind::kHandoff};
  if (auto frame = program_frame(definition, anywhere, std::nullopt, rlimit{}, {}); !frame)
    return std::unexpected(frame.error());
  if (service.backend.targets.empty()) {
    auto command = expand_command(service.backend.command, "backend.command", anywhere);
    if (!command) return std::unexpected(command.error());
  }
  if (plan_health(service).kind == HealthPlan::Kind::kCommand) {
    auto command = expand_command(service.health.command, "health.command", anywhere);
    if (!command) return std::unexpected(command.error());
  }
  return {};
}

}  // namespace relayd::backend
