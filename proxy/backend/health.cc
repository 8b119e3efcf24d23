#include "proxy/backend/health.h"

#include <algorithm>
#include <utility>

#include "proxy/base/proxy_protocol.h"

namespace relayd::backend {
namespace {

// Before it is ready an app is asked often: every millisecond between ready and noticed is one that clients
// are held.
constexpr Duration kFirstPause{50};
constexpr Duration kLongestPause{250};

std::string preamble_of(config::ProxyProtocol send) {
  switch (send) {
    case config::ProxyProtocol::kOff:
      return "";
    case config::ProxyProtocol::kV1:
      return encode_proxy_header(ProxyVersion::kV1, nullptr, nullptr);
    case config::ProxyProtocol::kV2:
      return encode_proxy_header(ProxyVersion::kV2, nullptr, nullptr);
  }
  return "";
}

}  // namespace

HealthPlan plan_health(const config::Service& service) {
  using Kind = HealthPlan::Kind;
  const config::Health& health = service.health;
  const Kind connect =
      service.backend.address == config::AddressKind::kActivation ? Kind::kAccept : Kind::kTcp;
  HealthPlan plan;
  plan.interval = health.interval;
  plan.timeout = health.timeout;
  plan.preamble = preamble_of(service.proxy_protocol.send);
  plan.path = health.path.empty() ? "/" : health.path;
  switch (health.check) {
    case config::Check::kTcp:
      plan.kind = connect;
      break;
    case config::Check::kHttp:
      plan.kind = Kind::kHttp;
      break;
    case config::Check::kNotify:
      plan.kind = Kind::kNotify;
      break;
    case config::Check::kCommand:
      plan.kind = Kind::kCommand;
      break;
    case config::Check::kNone:
      plan.kind = Kind::kNone;
      break;
    case config::Check::kAuto:
      if (service.backend.address == config::AddressKind::kHandoff) {
        plan.kind = Kind::kNotify;
      } else if (!health.path.empty()) {
        plan.kind = Kind::kHttp;
      } else if (service.protocol == config::Protocol::kHttp) {
        plan.kind = Kind::kHttp;
        plan.bad_from = 500;
      } else {
        plan.kind = connect;
        plan.ready_by_notify = true;
      }
      break;
  }
  if (plan.kind == Kind::kNotify) plan.ready_by_notify = true;
  return plan;
}

HealthRecord::Verdict HealthRecord::succeeded() {
  state_.last_error.clear();
  state_.failures = 0;
  switch (std::exchange(state_.standing, HealthState::Standing::kWell)) {
    case HealthState::Standing::kStarting:
      return Verdict::kReady;
    case HealthState::Standing::kUnwell:
      return Verdict::kHealthy;
    case HealthState::Standing::kWell:
      break;
  }
  return Verdict::kNothing;
}

HealthRecord::Verdict HealthRecord::failed(std::string error) {
  state_.last_error = std::move(error);
  ++state_.tries;
  if (state_.standing != HealthState::Standing::kWell || ++state_.failures < kFailuresInARow)
    return Verdict::kNothing;
  state_.standing = HealthState::Standing::kUnwell;
  return Verdict::kUnhealthy;
}

HealthRecord::Verdict HealthRecord::notified() {
  if (!plan_.ready_by_notify || state_.standing != HealthState::Standing::kStarting) return Verdict::kNothing;
  state_.believed = true;
  return succeeded();
}

std::optional<Duration> HealthRecord::next() const {
  if (state_.believed || plan_.kind == HealthPlan::Kind::kNotify || plan_.kind == HealthPlan::Kind::kNone)
    return {};
  if (state_.standing != HealthState::Standing::kStarting) {
    if (plan_.interval == Duration::zero() || plan_.kind == HealthPlan::Kind::kAccept) return {};
    return plan_.interval;
  }
  const Duration longest = plan_.interval == Duration::zero()
                               ? kLongestPause
                               : std::clamp(plan_.interval, kFirstPause, kLongestPause);
  return std::min(kFirstPause * (1 + state_.tries / 4), longest);  // a few quick ones, then slower
}

HealthMonitor::HealthMonitor(Loop& loop, const HealthPlan& plan,
                             std::function<std::unique_ptr<Probe>()> make_probe, Events events,
                             HealthState state)
    : plan_(plan),
      record_(plan, std::move(state)),
      make_probe_(std::move(make_probe)),
      events_(std::move(events)),
      timer_(loop) {
  if (plan_.kind == HealthPlan::Kind::kNotify) return;
  if (record_.state().standing != HealthState::Standing::kStarting) {
    if (const auto pause = record_.next()) timer_.start(*pause, [this] { try_once(); });
    return;
  }
  timer_.start(Duration::zero(), [this] {
    if (plan_.kind == HealthPlan::Kind::kNone) return conclude(record_.succeeded());
    try_once();
  });
}

void HealthMonitor::try_once() {
  probe_ = make_probe_();
  probe_->start([this](Result<void> result) { on_result(std::move(result)); });
}

// The probe is kept until the next one takes its place: it may still be closing its connection.
void HealthMonitor::on_result(Result<void> result) {
  const auto verdict = result ? record_.succeeded() : record_.failed(result.error().message);
  if (const auto pause = record_.next()) timer_.start(*pause, [this] { try_once(); });
  conclude(verdict, !result);
}

void HealthMonitor::notified() {
  const auto verdict = record_.notified();
  if (verdict == HealthRecord::Verdict::kNothing) return;
  timer_.stop();
  probe_.reset();
  conclude(verdict);
}

// Last in every path: the callback may destroy this.
void HealthMonitor::conclude(HealthRecord::Verdict verdict, bool failed) {
  using Verdict = HealthRecord::Verdict;
  const Events events = events_;
  const std::string error = record_.last_error();
  if (verdict == Verdict::kReady && events.ready) events.ready();
  if (verdict == Verdict::kUnhealthy && events.unhealthy) events.unhealthy(error);
  if (verdict == Verdict::kHealthy && events.healthy) events.healthy();
  if (verdict == Verdict::kNothing && failed && events.failed) events.failed(error);
}

}  // namespace relayd::backend
