#pragma once

#include <functional>
#include <string>
#include <vector>

#include "control/protocol/json.h"
#include "control/server/commands.h"

namespace relayd::control {

// Runs once for each request, with the line that answers it; perhaps before dispatch() returns, perhaps long
// after.
using Reply = std::function<void(std::string line)>;

// Carries a request out; an exception of the daemon's becomes an answer. Every method but events.subscribe,
// which belongs to the connection (server.cc).
void dispatch(const Request& request, const Asked& asked, Commands& commands, const Reply& reply);

// The kept events that a subscription or events.recent asks for, oldest first.
std::vector<Event> select_events(std::vector<Event> events, const std::string& service,
                                 std::optional<std::uint64_t> since, std::optional<unsigned> recent);
// Whether one who follows `service` gets the event: its own and those of relayd itself.
bool concerns(const Event& event, const std::string& service);
// Whether there is such a service; empty means all. The daemon words the refusal.
Outcome<Done> check_service(const std::string& service, Commands& commands);

}  // namespace relayd::control
