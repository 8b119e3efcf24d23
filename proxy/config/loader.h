#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "proxy/config/config.h"

namespace relayd::config {

// One fault of a configuration. Lines and columns count from 1; 0 where there is none (a flag of the command
// line).
struct Fault {
  std::string file;
  int line = 0;
  int column = 0;
  std::string message;  // what is wrong, where in the tree ("services.web.rollover"), and the cure

  // "relayd.yaml:12:7: message"
  std::string to_string() const;
};

struct Loaded {
  Config config;              // complete only where `faults` is empty
  std::vector<Fault> faults;  // every fault found, in the order of the file
};

// Reads and checks the whole file: syntax, keys (with the key meant for a misspelling), types, duplicates,
// ranges, impossible combinations, and what this version cannot do yet. Never throws.
Loaded load_file(const std::string& path);
// The same for a text; `name` stands for the file in faults.
Loaded load_text(std::string_view text, const std::string& name);

// The values of the file's notation, for the flags of the command line too. The error says what was expected.
// Bounds of a key are check()'s (checks.h).
Result<Duration> parse_duration(
    std::string_view text);  // 250ms, 30s, 5m, 1h; a unit is required; at most 8760h
Result<std::uint64_t> parse_size(std::string_view text);  // 512, 64KiB, 1MiB, 2GiB
Result<unsigned> parse_percent(std::string_view text);    // 25%; 0% to 100%
Result<unsigned> parse_count(std::string_view text);      // 4; digits only
Result<unsigned> parse_mode_bits(std::string_view text);  // 0600: octal with its leading 0, at most 0777
Result<unsigned> parse_threads(std::string_view text);    // 4, or "auto", which is 0
Result<int> parse_signal(std::string_view text);          // TERM, SIGTERM, QUIT …
// "1m30s" style is not used: the largest unit that is exact, as "90s".
std::string format_duration(Duration value);
// As the parse_* functions read them; a value that none of them gives becomes a text that they refuse.
std::string format_count(std::uint64_t value);
std::string format_percent(unsigned value);
std::string format_mode_bits(unsigned value);
std::string format_threads(unsigned value);
std::string format_signal(int value);  // without SIG

// The name among `known` that was probably meant (by edit distance), or empty.
std::string nearest(std::string_view name, const std::vector<std::string_view>& known);

}  // namespace relayd::config
