#include "control/relayctl/status_view.h"

#include <algorithm>

namespace relayd::relayctl {
namespace {

using control::GenerationStatus;
using control::InstanceStatus;
using control::ServiceStatus;

Paint paint_of(const std::string& state) {
  if (state == "serving" || state == "ready") return Paint::kGreen;
  if (state == "draining" || state == "stopping" || state == "gone") return Paint::kDim;
  if (state == "unhealthy" || state == "down" || state.starts_with("fail")) return Paint::kRed;
  return Paint::kYellow;
}

std::string last_rollover(const ServiceStatus& service, const Style& style, std::int64_t now_unix_ms) {
  if (!service.last_rollover) return "";
  const auto& last = *service.last_rollover;
  const Paint colour = last.result == "done"     ? Paint::kGreen
                       : last.result == "failed" ? Paint::kRed
                                                 : Paint::kYellow;
  std::string text = paint(style, colour, printable(last.result)) + " " + printable(last.mode) + " " +
                     std::to_string(last.from) + (style.unicode ? "→" : "->") + std::to_string(last.to) +
                     " in " + human_duration(last.duration_ms);
  if (last.ended_unix_ms > 0) text += ", " + human_duration(now_unix_ms - last.ended_unix_ms) + " ago";
  return text;
}

// Handed over, relayd knows nothing of the app's connections, and shows no number.
bool seen_by_relayd(const ServiceStatus& service) { return service.data_path != "app"; }

std::vector<std::vector<std::string>> service_rows(const control::StatusReport& report, const Style& style,
                                                   std::int64_t now_unix_ms) {
  std::vector<std::vector<std::string>> rows{
      {"SERVICE", "PHASE", "GEN", "READY", "CONNS", "HELD", "MODE", "LAST ROLLOVER"}};
  for (std::string& title : rows.front()) title = paint(style, Paint::kDim, title);
  for (const ServiceStatus& service : report.services) {
    const GenerationStatus* serving = find_generation(service, service.generation);
    rows.push_back({paint(style, Paint::kBold, printable(service.name)),
                    paint(style, paint_of(service.phase),
                          printable(service.phase) + (service.holding ? ", holding" : "")),
                    service.generation == 0 ? "-" : std::to_string(service.generation),
                    serving != nullptr ? ready_of(*serving, service.instances)
                                       : "0/" + std::to_string(service.instances),
                    seen_by_relayd(service) ? std::to_string(service.active + service.steered) : "-",
                    service.held > 0 ? paint(style, Paint::kYellow, std::to_string(service.held)) : "0",
                    printable(service.mode), last_rollover(service, style, now_unix_ms)});
  }
  return rows;
}

std::string due(const GenerationStatus& generation) {
  if (generation.cut_in_ms) return "cut in " + human_duration(*generation.cut_in_ms);
  if (generation.ready_in_ms) return "given up in " + human_duration(*generation.ready_in_ms);
  return "";
}

// Requests only where there are any, so that a service of another protocol says nothing about them.
std::string load_of(const auto& counts, bool seen) {
  if (!seen) return "";
  std::string text = counted(counts.connections, "connection");
  if (counts.requests > 0) text += ", " + counted(counts.requests, "request");
  return text;
}

// A target's name is told with what it stands for.
std::string place_of(const InstanceStatus& instance) {
  if (instance.target.empty() || instance.addresses.empty()) return printable(instance.address);
  std::string list;
  for (const std::string& address : instance.addresses)
    list += (list.empty() ? "" : ", ") + printable(address);
  return list == printable(instance.target) ? list : printable(instance.target) + " = " + list;
}

// `troubled`: only those that are not well and say why.
std::vector<std::vector<std::string>> instance_rows(const GenerationStatus& generation, bool troubled,
                                                    bool seen, const Style& style) {
  std::vector<std::vector<std::string>> rows;
  for (const InstanceStatus& instance : generation.instances) {
    if (troubled && (instance.state == "ready" || instance.note.empty())) continue;
    std::string note = instance.restarts > 0 ? counted(instance.restarts, "restart") : "";
    if (!instance.note.empty()) note += (note.empty() ? "" : ", ") + printable(instance.note);
    rows.push_back({"instance " + std::to_string(instance.index),
                    paint(style, paint_of(instance.state), printable(instance.state)),
                    instance.pid > 0 ? "pid " + std::to_string(instance.pid) : "", place_of(instance),
                    load_of(instance, seen), note});
  }
  return rows;
}

void add_service_lines(const ServiceStatus& service, bool instances, const Style& style,
                       std::vector<std::string>& lines) {
  const bool seen = seen_by_relayd(service);
  std::vector<std::vector<std::string>> rows;
  for (const GenerationStatus& generation : service.generations) {
    rows.push_back({"generation " + std::to_string(generation.number),
                    paint(style, paint_of(generation.state), printable(generation.state)),
                    ready_of(generation, static_cast<unsigned>(generation.instances.size())) + " ready",
                    load_of(generation, seen), "up " + human_duration(generation.age_ms),
                    paint(style, Paint::kYellow, due(generation))});
  }
  const auto generation_lines = aligned(rows, "  ");
  for (std::size_t i = 0; i < generation_lines.size(); ++i) {
    lines.push_back(generation_lines[i]);
    for (std::string& line : aligned(instance_rows(service.generations[i], !instances, seen, style), "    "))
      lines.push_back(std::move(line));
  }
  if (service.last_rollover && !service.last_rollover->reason.empty() &&
      service.last_rollover->result != "done") {
    const std::string reason = printable(service.last_rollover->reason, true);
    const bool all = instances;  // one line of it is enough in the overview
    std::size_t start = 0;
    std::string lead = "  why the last rollover " + printable(service.last_rollover->result) + ": ";
    do {
      const std::size_t end = reason.find('\n', start);
      lines.push_back(paint(style, Paint::kRed, lead + reason.substr(start, end - start)));
      lead = "    ";
      start = end == std::string::npos ? end : end + 1;
    } while (all && start < reason.size());
  }
  if (!instances) return;
  std::string listen;
  for (const std::string& address : service.listen)
    listen += (listen.empty() ? "" : ", ") + printable(address);
  lines.push_back("  listens on " + (listen.empty() ? "nothing" : listen));
  if (!seen) {
    lines.emplace_back(
        "  the app accepts from there itself; its connections are its own, and not counted here");
    return;
  }
  if (!service.steering.empty() && service.steering != "off") {
    lines.push_back("  new connections: " + printable(service.steering) + "; " +
                    counted(service.steered, "steered connection"));
  }
  lines.push_back("  " + counted(service.accepted, "connection") + " accepted, " +
                  human_bytes(service.bytes_in) + " in, " + human_bytes(service.bytes_out) + " out");
  lines.push_back("  " + std::to_string(service.held_total) + " held since the start, " +
                  std::to_string(service.hold_timeouts) + " of them in vain; " +
                  counted(service.connect_failures, "failed connect") + "; " + std::to_string(service.cut) +
                  " cut at the end of a drain");
  if (service.requests + service.answered > 0) {
    lines.push_back("  " + counted(service.requests, "request") + " answered by the app, " +
                    std::to_string(service.answered) + " by relayd; " +
                    counted(service.crossings, "crossing") + " to another generation; " +
                    std::to_string(service.sent_again) + " sent again");
  }
  if (service.proxy_refused > 0) {
    lines.push_back("  " + paint(style, Paint::kYellow, counted(service.proxy_refused, "client")) +
                    " refused for want of a valid PROXY header (relayd's log says why)");
  }
}

}  // namespace

const GenerationStatus* find_generation(const ServiceStatus& service, std::uint32_t number) {
  const auto found = std::ranges::find(service.generations, number, &GenerationStatus::number);
  return number == 0 || found == service.generations.end() ? nullptr : &*found;
}

std::string ready_of(const GenerationStatus& generation, unsigned wanted) {
  const auto ready = std::ranges::count(generation.instances, "ready", &InstanceStatus::state);
  return std::to_string(ready) + "/" + std::to_string(wanted);
}

std::vector<std::string> status_lines(const control::StatusReport& report, bool instances, const Style& style,
                                      std::int64_t now_unix_ms) {
  std::vector<std::string> lines;
  lines.push_back(paint(style, Paint::kBold, "relayd " + printable(report.version)) + "   pid " +
                  std::to_string(report.pid) + "   up " + human_duration(report.uptime_ms) +
                  (report.upgrades > 0 ? ", " + counted(report.upgrades, "upgrade") : "") + "   " +
                  counted(report.threads, "thread") +
                  (report.config_file.empty() ? "" : "   " + printable(report.config_file)));
  lines.emplace_back();
  const auto table = aligned(service_rows(report, style, now_unix_ms));
  for (std::size_t i = 0; i < table.size(); ++i) {
    lines.push_back(table[i]);
    if (i > 0) add_service_lines(report.services[i - 1], instances, style, lines);
  }
  if (report.services.empty()) lines.emplace_back("no service is configured");
  for (std::string& line : lines) line = cut_line(line, style);
  return lines;
}

}  // namespace relayd::relayctl
