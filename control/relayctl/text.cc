#include "control/relayctl/text.h"

#include <algorithm>
#include <array>
#include <cstdio>

namespace relayd::relayctl {
namespace {

constexpr std::string_view kReset = "\x1b[0m";

// Bytes of the colour sequence that starts at `at`; 0 where none does.
std::size_t escape_length(std::string_view text, std::size_t at) {
  if (text.substr(at, 2) != "\x1b[") return 0;
  const std::size_t end = text.find('m', at);
  return end == std::string_view::npos ? 0 : end - at + 1;
}

// Bytes of the UTF-8 character that starts at `at`, which is one column: the signs used here are, and names
// mostly.
std::size_t character_length(std::string_view text, std::size_t at) {
  std::size_t length = 1;
  while (at + length < text.size() && (static_cast<unsigned char>(text[at + length]) & 0xC0) == 0x80)
    ++length;
  return length;
}

std::string with_unit(std::int64_t big, const char* unit, std::int64_t small, const char* small_unit) {
  std::string text = std::to_string(big) + " " + unit;
  if (small > 0) text += " " + std::to_string(small) + " " + small_unit;
  return text;
}

}  // namespace

std::string paint(const Style& style, Paint paint, std::string_view text) {
  constexpr std::array codes{"", "\x1b[1m", "\x1b[2m", "\x1b[32m", "\x1b[33m", "\x1b[31m", "\x1b[36m"};
  if (!style.colour || paint == Paint::kPlain || text.empty()) return std::string(text);
  return std::string(codes[static_cast<std::size_t>(paint)]).append(text).append(kReset);
}

std::string human_duration(std::int64_t ms) {
  if (ms < 0) ms = 0;
  const std::int64_t seconds = ms / 1000;
  if (seconds < 10) {
    const std::int64_t tenths = ms / 100;
    return std::to_string(tenths / 10) + "." + std::to_string(tenths % 10) + " s";
  }
  if (seconds < 60) return std::to_string(seconds) + " s";
  if (seconds < 3600) return with_unit(seconds / 60, "min", seconds % 60, "s");
  if (seconds < 86400) return with_unit(seconds / 3600, "h", seconds % 3600 / 60, "min");
  return with_unit(seconds / 86400, "d", seconds % 86400 / 3600, "h");
}

std::string human_bytes(std::uint64_t bytes) {
  constexpr std::array units{"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
  double value = static_cast<double>(bytes);
  std::size_t unit = 0;
  while (value >= 1024 && unit + 1 < units.size()) {
    value /= 1024;
    ++unit;
  }
  char text[32];
  std::snprintf(text, sizeof text, unit == 0 || value >= 100 ? "%.0f %s" : "%.1f %s", value, units[unit]);
  return text;
}

std::string counted(std::uint64_t count, std::string_view one) {
  return std::to_string(count) + " " + std::string(one) + (count == 1 ? "" : "s");
}

std::string printable(std::string_view text, bool keep_newlines) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const bool c1 = byte == 0xC2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xA0;
    if (byte == '\t') {
      out += ' ';
    } else if (byte == '\n' && keep_newlines) {
      out += '\n';
    } else if (byte < 0x20 || byte == 0x7F || c1) {
      out += '?';
      if (c1) ++i;
    } else {
      out += text[i];
    }
  }
  return out;
}

std::size_t columns(std::string_view text) {
  std::size_t count = 0;
  for (std::size_t i = 0; i < text.size();) {
    if (const std::size_t escape = escape_length(text, i); escape > 0) {
      i += escape;
    } else {
      i += character_length(text, i);
      ++count;
    }
  }
  return count;
}

std::string cut_line(std::string_view text, const Style& style) {
  if (style.width == 0 || columns(text) <= style.width) return std::string(text);
  std::string out;
  std::size_t count = 0;
  bool coloured = false;
  for (std::size_t i = 0; i < text.size() && count + 1 < style.width;) {
    const std::size_t escape = escape_length(text, i);
    const std::size_t length = escape > 0 ? escape : character_length(text, i);
    const std::string_view piece = text.substr(i, length);
    if (escape > 0) {
      coloured = piece != kReset;
    } else {
      ++count;
    }
    out += piece;
    i += length;
  }
  out += style.unicode ? "…" : ">";
  if (coloured) out += kReset;
  return out;
}

std::vector<std::string> aligned(const std::vector<std::vector<std::string>>& rows, std::string_view indent) {
  std::vector<std::size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], columns(row[i]));
  }
  std::vector<std::string> lines;
  for (const auto& row : rows) {
    std::string line(indent);
    std::size_t last = row.size();
    while (last > 0 && row[last - 1].empty()) --last;
    for (std::size_t i = 0; i < last; ++i) {
      line += row[i];
      if (i + 1 < last) line.append(widths[i] - columns(row[i]) + 2, ' ');
    }
    lines.push_back(std::move(line));
  }
  return lines;
}

}  // namespace relayd::relayctl
