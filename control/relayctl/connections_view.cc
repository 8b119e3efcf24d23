#include "control/relayctl/connections_view.h"

#include <cstdio>
#include <ctime>

namespace relayd::relayctl {
namespace {

Paint paint_of(std::string_view type) {
  const auto has = [&](std::string_view part) { return type.find(part) != std::string_view::npos; };
  if (has("fail") || has("unhealthy") || has("killed")) return Paint::kRed;
  if (has("exited") || has("cut") || has("warning") || has("aborted")) return Paint::kYellow;
  return Paint::kCyan;
}

}  // namespace

std::vector<std::string> connection_lines(const std::vector<control::ConnectionEntry>& connections,
                                          const Style& style) {
  if (connections.empty()) return {"no connection is open"};
  std::vector<std::vector<std::string>> rows{
      {"SERVICE", "ID", "CLIENT", "GEN", "INSTANCE", "STATE", "AGE", "IDLE", "IN", "OUT"}};
  for (std::string& title : rows.front()) title = paint(style, Paint::kDim, title);
  for (const auto& entry : connections) {
    const bool assigned = entry.generation != 0;
    rows.push_back({printable(entry.service), std::to_string(entry.id), printable(entry.client),
                    assigned ? std::to_string(entry.generation) : "-",
                    assigned ? std::to_string(entry.instance) : "-", printable(entry.state),
                    human_duration(entry.age_ms), human_duration(entry.idle_ms), human_bytes(entry.bytes_in),
                    human_bytes(entry.bytes_out)});
  }
  auto lines = aligned(rows);
  for (std::string& line : lines) line = cut_line(line, style);
  return lines;
}

std::string event_line(const control::Event& event, const Style& style) {
  const std::time_t seconds = event.unix_ms / 1000;
  std::tm local{};
  ::localtime_r(&seconds, &local);
  char time[32];
  std::snprintf(time, sizeof time, "%02d:%02d:%02d.%03d", local.tm_hour, local.tm_min, local.tm_sec,
                static_cast<int>(event.unix_ms % 1000));
  std::string line = paint(style, Paint::kDim, time) + "  ";
  line += event.service.empty() ? "relayd" : paint(style, Paint::kBold, printable(event.service));
  // The daemon's messages name the generation mostly.
  if (event.generation != 0 && event.message.find("generation") == std::string::npos) {
    line += "  generation " + std::to_string(event.generation);
    if (event.instance) line += " instance " + std::to_string(*event.instance);
  }
  line += "  " + paint(style, paint_of(event.type), printable(event.type));
  if (!event.message.empty()) line += "  " + printable(event.message);
  return line;
}

}  // namespace relayd::relayctl
