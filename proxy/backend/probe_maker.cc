#include "proxy/backend/probe_maker.h"

#include <utility>

namespace relayd::backend {

Result<MakeProbe> probe_maker(Context& context, const Definition& definition, const HealthPlan& plan,
                              const Placement& placement, const Program& frame, int listening) {
  switch (plan.kind) {
    case HealthPlan::Kind::kCommand: {
      auto command = expand_command(definition.service.health.command, "health.command", placement);
      if (!command) return std::unexpected(command.error());
      Program program = frame;
      program.command = std::move(*command);
      program.env.erase("NOTIFY_SOCKET");  // it speaks about the app, not for it
      return [&context, program = std::move(program), plan] {
        return make_command_probe(context.loop, context.keeper, program, plan.timeout);
      };
    }
    case HealthPlan::Kind::kHttp:
      return [&context, address = placement.address, plan] {
        return make_http_probe(context.loop, address, plan.path, plan.bad_from, plan.timeout, plan.preamble);
      };
    case HealthPlan::Kind::kAccept:
      return [&context, address = placement.address, plan, listening] {
        return make_accept_probe(context.loop, address, listening, plan.timeout, plan.preamble);
      };
    default:
      return [&context, address = placement.address, plan] {
        return make_tcp_probe(context.loop, address, plan.timeout, plan.preamble);
      };
  }
}

}  // namespace relayd::backend
