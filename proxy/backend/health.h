#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "proxy/backend/probe.h"
#include "proxy/backend/record.h"
#include "proxy/config/config.h"

namespace relayd::backend {

// The checks of one service, with `auto` resolved.
struct HealthPlan {
  // kAccept: as kTcp, on a socket of relayd's own (address: activation), to which every connect succeeds.
  enum class Kind { kTcp, kAccept, kHttp, kCommand, kNotify, kNone };
  Kind kind = Kind::kTcp;
  bool ready_by_notify = false;  // READY=1 makes it ready too, and is believed from then on
  std::string path;              // kHttp
  int bad_from = 300;            // kHttp: the first status that is not well
  // kTcp, kAccept, kHttp: sent first, where the app expects a PROXY header on every connection: one that
  // names nobody, as a check comes from no client.
  std::string preamble;
  Duration interval{};  // between checks once ready; 0: none
  Duration timeout{};   // of one check
};
// Contract, section 3: auto is http if a path is set; else, with `protocol: http`, a GET of / that any answer
// below 500 satisfies; else READY=1 or a TCP connect, whichever comes first. With `address: activation` a
// connection that the app has accepted takes the place of the TCP connect; once ready it is not checked
// again, as a busy app's accept queue says nothing. With `address: handoff` auto is READY=1 alone.
HealthPlan plan_health(const config::Service& service);

// What the results of the checks amount to, and when the next one is due. Pure.
class HealthRecord {
 public:
  enum class Verdict { kNothing, kReady, kUnhealthy, kHealthy };

  explicit HealthRecord(const HealthPlan& plan, HealthState state = {})
      : plan_(plan), state_(std::move(state)) {}
  const HealthState& state() const { return state_; }
  Verdict succeeded();
  // `count` of kFailuresInARow failures make a ready instance unhealthy; one success makes it well again.
  Verdict failed(std::string error);
  // READY=1 of the app.
  Verdict notified();
  // From the end of one check to the start of the next; empty: no more checks.
  std::optional<Duration> next() const;
  // Of the last check; empty where it was well.
  const std::string& last_error() const { return state_.last_error; }

  static constexpr int kFailuresInARow = 3;

 private:
  HealthPlan plan_;
  HealthState state_;
};

// Runs the checks of one instance. Callbacks run on the loop; this may be destroyed inside them.
class HealthMonitor {
 public:
  struct Events {
    std::function<void()> ready;
    std::function<void(const std::string&)> unhealthy;
    std::function<void()> healthy;
    // A check failed, and nothing else is told of it: it is not ready yet, or this was not the third in a
    // row.
    std::function<void(const std::string&)> failed = nullptr;
  };

  // `make_probe` is not called for the kinds kNotify and kNone. The first check starts when the loop runs;
  // with a `state` that is not kStarting, of another image of relayd, the next one follows after its
  // interval.
  HealthMonitor(Loop& loop, const HealthPlan& plan, std::function<std::unique_ptr<Probe>()> make_probe,
                Events events, HealthState state = {});
  const HealthState& state() const { return record_.state(); }
  // READY=1 of the app. May call back at once.
  void notified();
  const std::string& last_error() const { return record_.last_error(); }

 private:
  void try_once();
  void on_result(Result<void> result);
  void conclude(HealthRecord::Verdict verdict, bool failed = false);

  const HealthPlan plan_;
  HealthRecord record_;
  const std::function<std::unique_ptr<Probe>()> make_probe_;
  const Events events_;
  std::unique_ptr<Probe> probe_;
  Timer timer_;
};

}  // namespace relayd::backend
