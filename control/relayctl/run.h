#pragma once

#include "control/relayctl/options.h"
#include "control/relayctl/session.h"

namespace relayd::relayctl {

// Does what the command line asks for, prints it, and says how to end.
Ending run(const Options& options);

// The longer verbs, in files of their own.
Ending run_rollover(Session& session, const Options& options, const Rollover& rollover);
Ending run_status(Session& session, const Options& options, const Status& status);
Ending run_upgrade(Session& session, const Options& options, const Upgrade& upgrade);
Ending run_events(Session& session, const Options& options, const Events& events);

}  // namespace relayd::relayctl
