#pragma once

#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

namespace relayd::fuzz {

// Ends the process as a found fault where `holds` is false; also in builds with NDEBUG.
inline void expect(bool holds, std::string_view rule) {
  if (holds) return;
  std::fprintf(stderr, "broken: %.*s\n", static_cast<int>(rule.size()), rule.data());
  std::abort();
}

// A log line must not be forged by what a stranger sends.
inline bool is_printable(std::string_view text) {
  for (const char c : text) {
    if (c < 0x20 || c > 0x7e) return false;
  }
  return true;
}

}  // namespace relayd::fuzz
