#include "control/relayctl/rollover_view.h"

#include <algorithm>
#include <array>
#include <utility>

#include "control/relayctl/status_view.h"

namespace relayd::relayctl {
namespace {

using control::GenerationStatus;
using control::ServiceStatus;

constexpr std::size_t kBar = 24;  // columns

std::string tick(const Style& style) { return paint(style, Paint::kGreen, style.unicode ? "✓" : "+"); }
std::string cross(const Style& style) { return paint(style, Paint::kRed, style.unicode ? "✗" : "x"); }

std::string spinner(unsigned frame, const Style& style) {
  constexpr std::array round{"⠋", "⠙", "⠹", "⠸", "⠼", "⠴", "⠦", "⠧", "⠇", "⠏"};
  constexpr std::array plain{"|", "/", "-", "\\"};
  return paint(style, Paint::kCyan,
               style.unicode ? round[frame % round.size()] : plain[frame % plain.size()]);
}

std::string bar(std::uint64_t part, std::uint64_t whole, const Style& style) {
  const std::uint64_t full =
      whole == 0 ? 0 : std::min<std::uint64_t>(kBar, (part * kBar + whole - 1) / whole);
  std::string text;
  for (std::uint64_t i = 0; i < kBar; ++i) {
    text += i < full ? (style.unicode ? "█" : "#") : (style.unicode ? "░" : ".");
  }
  return text;
}

std::uint32_t newest(const ServiceStatus& service) {
  std::uint32_t number = 0;
  for (const auto& generation : service.generations) number = std::max(number, generation.number);
  return std::max(number, service.generation);
}

void add_text(std::vector<std::string>& lines, const std::string& lead, const std::string& text) {
  std::size_t start = 0;
  while (start < text.size()) {
    const std::size_t end = std::min(text.find('\n', start), text.size());
    lines.push_back(lead + text.substr(start, end - start));
    start = end + 1;
  }
}

}  // namespace

RolloverView::RolloverView(const ServiceStatus& before, const std::optional<std::string>& mode)
    : now_(before),
      mode_(mode.value_or(before.mode)),
      newest_before_(newest(before)),
      serving_before_(before.generation) {
  if (mode_ == "hot") {
    steps_ = {{"held"}, {"old drained"}, {"started"}, {"ready"}, {"released"}};
  } else if (mode_ == "restart") {
    steps_ = {{"old stopped"}, {"started"}, {"ready"}, {"released"}};
  } else {
    steps_ = {{"started"}, {"ready"}, {"switched"}, {"old drained"}};
  }
  update(before);
}

// Steps come in order: a later one that is seen proves those before it, however short they were.
void RolloverView::pass(std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) steps_[i].passed = true;
}

void RolloverView::update(const ServiceStatus& now) {
  now_ = now;
  for (const GenerationStatus& generation : now.generations) {
    auto& most = most_of_[generation.number];
    most = std::max(most, generation.connections);
    most_connections_ = std::max(most_connections_, most);
  }
  const std::uint32_t latest = newest(now);
  const GenerationStatus* next = latest > newest_before_ ? find_generation(now, latest) : nullptr;
  const bool started = next != nullptr;
  const bool ready = started && !next->instances.empty() &&
                     std::ranges::all_of(next->instances, [](const auto& i) { return i.state == "ready"; });
  const bool switched = started && now.generation == latest;
  const bool old_gone = serving_before_ != 0 && find_generation(now, serving_before_) == nullptr;
  if (mode_ == "hot") {
    const bool held = now.holding;
    pass(switched ? 5 : ready ? 4 : started ? 3 : old_gone ? 2 : held ? 1 : 0);
  } else if (mode_ == "restart") {
    pass(switched ? 4 : ready ? 3 : started ? 2 : old_gone ? 1 : 0);
  } else {
    pass(switched && old_gone ? 4 : switched ? 3 : ready ? 2 : started ? 1 : 0);
  }
}

std::string RolloverView::bar_line(const GenerationStatus& generation, const Style& style) const {
  const bool serving = generation.number == now_.generation;
  const bool starting = generation.state == "starting";
  const Paint colour = serving ? Paint::kGreen : starting ? Paint::kYellow : Paint::kDim;
  std::string line = "  generation " + std::to_string(generation.number) + "  " +
                     paint(style, colour, bar(generation.connections, most_connections_, style)) + "  ";
  if (starting) {
    line +=
        "starting, " + ready_of(generation, static_cast<unsigned>(generation.instances.size())) + " ready";
  } else {
    line += printable(generation.state) + ", " + counted(generation.connections, "connection") +
            (serving ? "" : " left");
  }
  if (generation.cut_in_ms) line += ", cut in " + human_duration(*generation.cut_in_ms);
  if (generation.ready_in_ms) line += ", given up in " + human_duration(*generation.ready_in_ms);
  for (const auto& instance : generation.instances) {
    if (instance.state != "ready" && !instance.note.empty())
      return line + " (" + printable(instance.note) + ")";
  }
  return line;
}

std::vector<std::string> RolloverView::lines(std::int64_t elapsed_ms, unsigned frame,
                                             const Style& style) const {
  std::vector<std::string> lines;
  lines.push_back(
      spinner(frame, style) + " " + paint(style, Paint::kBold, printable(now_.name)) + "  " + mode_ +
      " rollover  " + human_duration(elapsed_ms) +
      (now_.held > 0 ? "  " + paint(style, Paint::kYellow, counted(now_.held, "client") + " held") : ""));
  std::string timeline = " ";
  bool active = true;  // the first step that is not passed is under way
  for (const Step& step : steps_) {
    if (&step != &steps_.front()) timeline += style.unicode ? " →" : " >";
    timeline += " ";
    if (step.passed) {
      timeline += tick(style) + " " + step.name;
    } else {
      timeline += std::exchange(active, false)
                      ? paint(style, Paint::kYellow, step.name + (style.unicode ? " …" : " ..."))
                      : paint(style, Paint::kDim, step.name);
    }
  }
  lines.push_back(std::move(timeline));
  for (const GenerationStatus& generation : now_.generations) lines.push_back(bar_line(generation, style));
  for (std::string& line : lines) line = cut_line(line, style);
  return lines;
}

std::vector<std::string> result_lines(const control::RolloverResult& result, const ServiceStatus* after,
                                      const Style& style) {
  const std::string name = paint(style, Paint::kBold, printable(result.service));
  const std::string mode = printable(result.mode);
  std::vector<std::string> lines;
  if (result.result == "done") {
    std::string line = tick(style) + " " + name + ": generation " + std::to_string(result.to) + " serves (" +
                       mode + ", " + human_duration(result.duration_ms) + ")";
    const GenerationStatus* old = after != nullptr ? find_generation(*after, result.from) : nullptr;
    if (result.drained && result.from != 0) {
      line += "; generation " + std::to_string(result.from) + " is gone";
    } else if (old != nullptr && old->connections == 0) {
      line += "; generation " + std::to_string(result.from) + " is " + printable(old->state);
    } else if (old != nullptr) {
      line += "; generation " + std::to_string(result.from) + " still has " +
              counted(old->connections, "connection");
      if (old->cut_in_ms) line += ", cut in " + human_duration(*old->cut_in_ms);
    }
    lines.push_back(std::move(line));
    return lines;
  }
  const std::string reason = printable(result.reason, true);
  const std::size_t first = std::min(reason.find('\n'), reason.size());
  lines.push_back(
      cross(style) + " " + name + ": " + mode + " rollover " + printable(result.result) +
      (result.to != 0 && result.to != result.from ? " (generation " + std::to_string(result.to) + ", "
                                                  : " (") +
      human_duration(result.duration_ms) + ")" + (reason.empty() ? "" : ": " + reason.substr(0, first)));
  if (first < reason.size()) add_text(lines, "    ", reason.substr(first + 1));
  const std::uint32_t serving = after != nullptr ? after->generation : result.from;
  lines.push_back(serving != 0 ? "  generation " + std::to_string(serving) + " still serves"
                               : paint(style, Paint::kRed, "  no generation serves: clients are held"));
  return lines;
}

std::vector<std::string> plan_lines(const control::RolloverResult& result, const Style& style) {
  std::vector<std::string> lines{paint(style, Paint::kBold, printable(result.service)) + ": a " +
                                 printable(result.mode) + " rollover from generation " +
                                 std::to_string(result.from) + " to " + std::to_string(result.to) + " would"};
  for (std::size_t i = 0; i < result.plan.size(); ++i) {
    lines.push_back("  " + std::to_string(i + 1) + ". " + printable(result.plan[i]));
  }
  return lines;
}

std::vector<std::string> reload_lines(const control::ReloadResult& result, const Style& style) {
  std::vector<std::string> lines;
  const auto add = [&](const char* what, const std::vector<std::string>& names, Paint colour) {
    if (names.empty()) return;
    std::string list;
    for (const std::string& name : names) list += (list.empty() ? "" : ", ") + printable(name);
    lines.push_back(paint(style, colour, what) + ": " + list);
  };
  add("rolled over", result.rolled_over, Paint::kGreen);
  add("added", result.added, Paint::kGreen);
  add("removed", result.removed, Paint::kGreen);
  add("adjusted without a rollover", result.adjusted, Paint::kGreen);
  add("unchanged", result.unchanged, Paint::kDim);
  add("takes effect only when relayd starts anew", result.needs_restart, Paint::kYellow);
  if (lines.empty()) lines.emplace_back("nothing changed");
  return lines;
}

}  // namespace relayd::relayctl
