#include "proxy/daemon/journal.h"

#include <chrono>

#include "proxy/base/log.h"

namespace relayd {
namespace {

log::Level level_of(const std::string& type) {
  if (type == "rollover_failed" || type == "launch_failed" || type == "reload_failed" ||
      type == "upgrade_failed")
    return log::Level::kError;
  if (type == "instance_exited" || type == "instance_unhealthy" || type == "instance_killed" ||
      type == "rollover_failing" || type == "target_unresolved" || type == "cut" || type == "warning") {
    return log::Level::kWarn;
  }
  return log::Level::kInfo;
}

}  // namespace

void Journal::record(const std::string& service, const rollover::Happening& happening) {
  control::Event event;
  event.service = service;
  event.type = happening.type;
  event.generation = happening.generation;
  if (happening.instance >= 0) event.instance = static_cast<unsigned>(happening.instance);
  event.message = happening.message;
  event.details = happening.details;
  add(std::move(event));
}

void Journal::record(const std::string& type, const std::string& message,
                     std::map<std::string, std::string> details) {
  control::Event event;
  event.type = type;
  event.message = message;
  event.details = std::move(details);
  add(std::move(event));
}

void Journal::add(control::Event event) {
  event.sequence = ++last_sequence_;
  event.unix_ms = std::chrono::duration_cast<std::chrono::milliseconds>(
                      std::chrono::system_clock::now().time_since_epoch())
                      .count();
  const auto reason = event.details.find("reason");
  const log::Level level = level_of(event.type);
  if (event.service.empty()) {
    log::write(level, event.message, {{"event", event.type}});
  } else if (reason != event.details.end() && level == log::Level::kError) {
    log::write(level, event.message,
               {{"service", event.service}, {"event", event.type}, {"reason", reason->second}});
  } else {
    log::write(level, event.message, {{"service", event.service}, {"event", event.type}});
  }
  events_.push_back(event);
  if (events_.size() > kKept) events_.pop_front();
  if (follower_) follower_(event);
}

}  // namespace relayd
