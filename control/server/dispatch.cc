#include "control/server/dispatch.h"

#include <unistd.h>

#include <exception>

#include "control/protocol/version.h"
#include "proxy/base/log.h"

namespace relayd::control {
namespace {

template <typename T>
std::string answer(const std::string& id, const Outcome<T>& outcome) {
  return outcome ? write_reply(id, *outcome) : write_failure(id, outcome.error());
}

// The callback for a command that answers later.
template <typename T>
auto later(const std::string& id, const Reply& reply) {
  return [id, reply](const Outcome<T>& outcome) { reply(answer(id, outcome)); };
}

struct Dispatch {
  const std::string& id;
  const Asked& asked;
  Commands& commands;
  const Reply& reply;

  void operator()(const StatusCall& call) const { reply(answer(id, commands.status(call.service))); }
  void operator()(const RolloverCall& call) const {
    commands.rollover({call.service, call.mode, call.env, call.until_drained, call.dry_run, call.targets},
                      asked, later<RolloverResult>(id, reply));
  }
  void operator()(const AbortCall& call) const { reply(answer(id, commands.abort(call.service))); }
  void operator()(const PauseCall& call) const { commands.pause(call.service, later<Done>(id, reply)); }
  void operator()(const ResumeCall& call) const { commands.resume(call.service, later<Done>(id, reply)); }
  void operator()(const ScaleCall& call) const {
    commands.scale(call.service, call.instances, later<Done>(id, reply));
  }
  void operator()(const ReloadCall&) const { commands.reload(asked, later<ReloadResult>(id, reply)); }
  void operator()(const ConnectionsCall& call) const {
    commands.connections(call.service, call.generation,
                         [id = id, reply = reply](Outcome<std::vector<ConnectionEntry>> entries) {
                           if (!entries) return reply(write_failure(id, entries.error()));
                           reply(write_reply(id, ConnectionList{std::move(*entries)}));
                         });
  }
  void operator()(const SubscribeCall&) const {
    reply(write_failure(id, {ErrorCode::kInvalidRequest, "events.subscribe needs a connection"}));
  }
  void operator()(const RecentCall& call) const {
    if (const auto known = check_service(call.service, commands); !known) {
      return reply(write_failure(id, known.error()));
    }
    reply(write_reply(
        id, EventList{select_events(commands.recent_events(), call.service, call.since, call.recent)}));
  }
  void operator()(const StopCall& call) const { reply(answer(id, commands.stop(call.now))); }
  void operator()(const UpgradeCall& call) const {
    commands.upgrade({call.binary}, asked, later<UpgradeResult>(id, reply));
  }
  void operator()(const VersionCall&) const {
    VersionInfo info;
    info.version = version();
    info.protocol = kProtocol;
    info.pid = ::getpid();
    reply(write_reply(id, info));
  }
};

}  // namespace

void dispatch(const Request& request, const Asked& asked, Commands& commands, const Reply& reply) {
  try {
    std::visit(Dispatch{request.id, asked, commands, reply}, request.call);
  } catch (const std::exception& error) {
    log::error("control: a command failed by an exception; this is a fault of relayd's",
               {{"method", method_name(request.call)}, {"error", error.what()}});
    reply(write_failure(request.id,
                        {ErrorCode::kFailed, std::string("a fault inside relayd: ") + error.what()}));
  }
}

std::vector<Event> select_events(std::vector<Event> events, const std::string& service,
                                 std::optional<std::uint64_t> since, std::optional<unsigned> recent) {
  std::erase_if(events, [&](const Event& event) {
    return (since && event.sequence <= *since) || !concerns(event, service);
  });
  if (recent && events.size() > *recent) events.erase(events.begin(), events.end() - *recent);
  return events;
}

bool concerns(const Event& event, const std::string& service) {
  return service.empty() || event.service.empty() || event.service == service;
}

Outcome<Done> check_service(const std::string& service, Commands& commands) {
  if (service.empty()) return Done{};
  const auto status = commands.status(service);
  if (!status) return std::unexpected(status.error());
  return Done{};
}

}  // namespace relayd::control
