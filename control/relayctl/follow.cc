#include <chrono>
#include <optional>

#include "control/relayctl/connections_view.h"
#include "control/relayctl/interrupt.h"
#include "control/relayctl/output.h"
#include "control/relayctl/run.h"
#include "control/relayctl/status_view.h"
#include "control/relayctl/terminal.h"

// The verbs that may go on until ctrl-C: status --watch and events --follow.
namespace relayd::relayctl {
namespace {

constexpr Duration kRedraw{500};

std::int64_t unix_ms() {
  const auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<Duration>(now).count();
}

// Ctrl-C is the way to leave, not a failure.
Ending left(const Ending& ending) { return ending.code == kExitInterrupted ? Ending{} : ending; }

Attempt<void> print_event(const control::Message& message, bool json, const Style& style) {
  if (json) return print_json(message.body, true), Attempt<void>();
  const auto event = control::read_event(message.body);
  if (!event) return std::unexpected(Ending{kExitFailed, event.error().message});
  print({event_line(*event, style)});
  return {};
}

}  // namespace

Ending run_status(Session& session, const Options& options, const Status& status) {
  if (status.watch) watch_interrupts();
  std::optional<LiveBlock> block;
  if (status.watch && !options.json && on_terminal()) block.emplace();
  for (;;) {
    const TimePoint next = monotonic_now() + kRedraw;
    const auto body = session.ask_now(control::StatusCall{status.service});
    if (!body) return status.watch ? left(body.error()) : body.error();
    if (options.json) {
      print_json(*body, status.watch);
    } else {
      const auto report = control::read_status(*body);
      if (!report) return {kExitFailed, report.error().message};
      const Style style = terminal_style();
      auto lines = status_lines(*report, !status.service.empty(), style, unix_ms());
      if (block) {
        // What does not fit would scroll, and could not be drawn over.
        if (const std::size_t height = terminal_height(); height > 1 && lines.size() >= height)
          lines.resize(height - 1);
        block->draw(lines);
      } else {
        print(lines);
        if (status.watch) print({""});
      }
    }
    if (!status.watch) return {};
    for (;;) {
      const auto message = session.receive(next);
      if (!message) return left(message.error());
      if (!*message) break;
    }
  }
}

Ending run_events(Session& session, const Options& options, const Events& events) {
  const Style style = terminal_style();
  if (!events.follow) {
    const auto body = session.ask_now(control::RecentCall{events.service, std::nullopt, events.recent});
    if (!body) return body.error();
    const auto list = control::read_events(*body);
    if (!list) return {kExitFailed, list.error().message};
    for (const auto& event : list->events) {
      if (options.json) {
        print_json(control::event_document(event), true);
      } else {
        print({event_line(event, style)});
      }
    }
    return {};
  }
  watch_interrupts();
  const auto id = session.send(control::SubscribeCall{events.service, std::nullopt, events.recent});
  if (!id) return left(id.error());
  for (;;) {
    const auto message = session.receive(TimePoint::max());
    if (!message) return left(message.error());
    if ((*message)->kind == control::Message::Kind::kEvent) {
      if (const auto printed = print_event(**message, options.json, style); !printed) return printed.error();
    } else if ((*message)->failure) {
      return ending_of(*(*message)->failure);
    }
  }
}

}  // namespace relayd::relayctl
