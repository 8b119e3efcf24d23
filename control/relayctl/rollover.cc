#include <algorithm>
#include <optional>

#include "control/relayctl/connections_view.h"
#include "control/relayctl/interrupt.h"
#include "control/relayctl/output.h"
#include "control/relayctl/rollover_view.h"
#include "control/relayctl/run.h"
#include "control/relayctl/status_view.h"
#include "control/relayctl/terminal.h"

namespace relayd::relayctl {
namespace {

constexpr Duration kPoll{200};   // between two status reports on a terminal
constexpr Duration kFrame{100};  // between two drawings

// A rollover that is waited for: its request is outstanding while status requests and events go by on the
// same connection.
class Waiting {
 public:
  Waiting(Session& session, const Options& options, const Rollover& rollover)
      : session_(session),
        options_(options),
        call_(rollover.call),
        live_(!options.json && !call_.dry_run && on_terminal()) {}

  Ending run() {
    watch_interrupts();
    if (auto begun = begin(); !begun) return begun.error();
    for (;;) {
      if (options_.timeout && monotonic_now() - started_ >= *options_.timeout) return timed_out();
      if (live_) {
        if (auto drawn = draw(); !drawn) return finish(drawn.error());
      }
      TimePoint until = live_ ? monotonic_now() + kFrame : TimePoint::max();
      if (options_.timeout) until = std::min(until, started_ + *options_.timeout);
      auto message = session_.receive(until);
      if (!message) return finish(message.error());
      if (!*message) continue;
      if (auto ending = take(**message)) return std::move(*ending);
    }
  }

 private:
  // Which service it is, how it is before, and the request itself. The service is the daemon's to find where
  // it is not named: a status report of one service tells it.
  Attempt<void> begin() {
    auto status = session_.ask_now(control::StatusCall{call_.service});
    if (!status) return std::unexpected(status.error());
    const auto report = control::read_status(*status);
    if (!report) return std::unexpected(Ending{kExitFailed, report.error().message});
    if (report->services.size() == 1) {
      before_ = report->services.front();
      if (call_.service.empty()) call_.service = before_->name;
    }
    if (!before_) live_ = false;
    if (!call_.dry_run) {
      const auto followed =
          session_.ask_now(control::SubscribeCall{call_.service, std::nullopt, std::nullopt});
      if (!followed) return std::unexpected(followed.error());
    }
    const auto id = session_.send(call_);
    if (!id) return std::unexpected(id.error());
    rollover_id_ = *id;
    started_ = monotonic_now();
    if (live_) {
      view_.emplace(*before_, call_.mode);
      block_.emplace();
    }
    return {};
  }

  Attempt<void> draw() {
    const TimePoint now = monotonic_now();
    // The answer to the last one is awaited first: a slow relayd is not asked more and more.
    if (status_id_ == 0 && now - asked_ >= kPoll) {
      const auto id = session_.send(control::StatusCall{call_.service});
      if (!id) return std::unexpected(id.error());
      status_id_ = *id;
      asked_ = now;
    }
    block_->draw(view_->lines((now - started_).count(), frame_++, terminal_style()));
    return {};
  }

  // An ending, where the message brings one.
  std::optional<Ending> take(const control::Message& message) {
    if (message.kind == control::Message::Kind::kEvent) {
      if (const auto event = control::read_event(message.body)) take_event(*event);
      return std::nullopt;
    }
    if (!message.id) {
      if (message.failure) return finish(ending_of(*message.failure));
    } else if (*message.id == rollover_id_) {
      return message.failure ? refused(*message.failure) : answered(message.body);
    } else if (*message.id == status_id_) {
      status_id_ = 0;
      if (const auto report =
              message.failure ? Result<control::StatusReport>(fail("")) : control::read_status(message.body);
          report && view_) {
        for (const auto& service : report->services) {
          if (service.name == call_.service) view_->update(service);
        }
      }
    }
    return std::nullopt;
  }

  void take_event(const control::Event& event) {
    if (!live_ && !options_.json) print({event_line(event, Style{false, terminal_style().unicode, 0})});
  }

  Ending refused(const control::Failure& failure) { return finish(ending_of(failure)); }

  Ending answered(const std::string& body) {
    const auto result = control::read_rollover(body);
    if (!result) return finish({kExitFailed, result.error().message});
    const bool good = result->result == "done" || result->result == "planned";
    Ending ending{good ? kExitDone : kExitFailed, ""};
    if (options_.json) return print_json(body), ending;
    block_end();
    if (result->result == "planned") return print(plan_lines(*result, terminal_style())), ending;
    std::optional<control::ServiceStatus> after;
    if (const auto status = session_.ask_now(control::StatusCall{call_.service})) {
      const auto report = control::read_status(*status);
      if (report && report->services.size() == 1) after = report->services.front();
    }
    print(result_lines(*result, after ? &*after : nullptr, terminal_style()));
    return ending;
  }

  Ending timed_out() {
    return finish({kExitTimeout, "--timeout passed after " + human_duration(options_.timeout->count()) +
                                     "; the rollover goes on in relayd: relayctl status --watch shows it, "
                                     "relayctl abort cancels it"});
  }

  Ending finish(Ending ending) {
    // Leave the last picture standing where it goes on without us.
    if (ending.code == kExitInterrupted || ending.code == kExitTerminated) {
      ending.message =
          "no longer waiting; the rollover goes on in relayd: relayctl status --watch shows it, relayctl "
          "abort cancels it";
      block_.reset();
    } else {
      block_end();
    }
    return ending;
  }

  void block_end() {
    if (block_) block_->clear();
    block_.reset();
  }

  Session& session_;
  const Options& options_;
  control::RolloverCall call_;
  bool live_;
  std::optional<control::ServiceStatus> before_;
  std::optional<RolloverView> view_;
  std::optional<LiveBlock> block_;
  std::uint64_t rollover_id_ = 0;
  std::uint64_t status_id_ = 0;  // 0: none is outstanding
  unsigned frame_ = 0;
  TimePoint started_;
  TimePoint asked_;
};

}  // namespace

Ending run_rollover(Session& session, const Options& options, const Rollover& rollover) {
  return Waiting(session, options, rollover).run();
}

}  // namespace relayd::relayctl
