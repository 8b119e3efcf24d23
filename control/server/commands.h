#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "control/protocol/messages.h"

// What the control socket can ask of relayd. The daemon implements it; the server knows only this. All calls
// and callbacks run on the main loop. A callback runs exactly once, possibly inside the call, unless the
// daemon ends first. No call may destroy the Server it came from; publishing events from inside a call is
// fine.
namespace relayd::control {

// Names one request, also over upgrades of relayd.
struct Asked {
  std::uint64_t ticket = 0;  // no other request has had it, nor will have
  bool again = false;        // begun before an upgrade of relayd: to be waited for, not to be begun anew
};

class Commands {
 public:
  virtual ~Commands() = default;

  // After an upgrade of relayd what had no answer yet is asked again. Those who are given an `Asked` must not
  // do it twice; the others may.

  // `service` empty: the only one, or (status, reload, stop, scale, pause, resume, rollover, abort) as
  // documented in PROTOCOL.md. Unknown names are kNoSuchService with the nearest name in the message.
  virtual Outcome<StatusReport> status(const std::string& service) = 0;

  struct RolloverRequest {
    std::string service;
    std::optional<std::string> mode;
    std::map<std::string, std::string> env;
    bool until_drained = false;
    bool dry_run = false;
    std::vector<std::string> targets = {};  // empty: the configured ones
  };
  virtual void rollover(const RolloverRequest& request, const Asked& asked,
                        std::function<void(Outcome<RolloverResult>)> done) = 0;
  virtual Outcome<Done> abort(const std::string& service) = 0;
  virtual void pause(const std::string& service, std::function<void(Outcome<Done>)> done) = 0;
  virtual void resume(const std::string& service, std::function<void(Outcome<Done>)> done) = 0;
  virtual void scale(const std::string& service, unsigned instances,
                     std::function<void(Outcome<Done>)> done) = 0;
  virtual void reload(const Asked& asked, std::function<void(Outcome<ReloadResult>)> done) = 0;
  virtual void connections(const std::string& service, std::optional<std::uint32_t> generation,
                           std::function<void(Outcome<std::vector<ConnectionEntry>>)> done) = 0;
  virtual Outcome<Done> stop(bool now) = 0;

  struct UpgradeRequest {
    std::string binary;  // empty: what lies at relayd's own path now
  };
  // Where relayd is replaced, the new one is asked again, and answers.
  virtual void upgrade(const UpgradeRequest& request, const Asked& asked,
                       std::function<void(Outcome<UpgradeResult>)> done) = 0;

  // The events kept (the newest ~1000), oldest first.
  virtual std::vector<Event> recent_events() = 0;
};

}  // namespace relayd::control
