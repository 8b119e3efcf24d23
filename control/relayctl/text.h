#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

// Text for people on a terminal: figures, columns, and bytes of strangers made harmless. Pure.
namespace relayd::relayctl {

// What the terminal can show.
struct Style {
  bool colour = false;
  bool unicode = true;    // else plain ASCII signs
  std::size_t width = 0;  // columns; lines are cut there. 0: never
};

enum class Paint { kPlain, kBold, kDim, kGreen, kYellow, kRed, kCyan };
// `text` in that colour, or as it is where the style has none.
std::string paint(const Style& style, Paint paint, std::string_view text);

// "0.4 s", "12 s", "3 min 4 s", "2 h 5 min", "3 d 4 h"
std::string human_duration(std::int64_t ms);
// "0 B", "1.5 KiB", "23 MiB"
std::string human_bytes(std::uint64_t bytes);
// "34 connections", "1 connection"
std::string counted(std::uint64_t count, std::string_view one);

// Control characters (an app's stderr may hold terminal commands) become '?', tabs spaces; newlines stay if
// asked.
std::string printable(std::string_view text, bool keep_newlines = false);

// Columns that the text takes; colours take none.
std::size_t columns(std::string_view text);
// At most `width` columns, the last one "…" where something was cut; colours stay closed. 0: as it is.
std::string cut_line(std::string_view text, const Style& style);

// Rows of cells to aligned lines, two spaces between columns; no spaces at the ends of lines.
std::vector<std::string> aligned(const std::vector<std::vector<std::string>>& rows,
                                 std::string_view indent = "");

}  // namespace relayd::relayctl
