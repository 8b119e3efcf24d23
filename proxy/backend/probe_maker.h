#pragma once

#include <functional>
#include <memory>

#include "proxy/backend/health.h"
#include "proxy/backend/instance.h"
#include "proxy/backend/launch.h"
#include "proxy/backend/probe.h"

namespace relayd::backend {

using MakeProbe = std::function<std::unique_ptr<Probe>()>;

// What makes the checks of `plan`, one after the other, of the instance at `placement`. `frame`: surroundings
// of its command, where the plan has one; `listening`: the listening socket, where relayd holds it, which is
// to outlive the checks. Error: the command's templates.
Result<MakeProbe> probe_maker(Context& context, const Definition& definition, const HealthPlan& plan,
                              const Placement& placement, const Program& frame, int listening);

}  // namespace relayd::backend
