#include <signal.h>

#include <algorithm>
#include <charconv>
#include <limits>
#include <optional>
#include <utility>

#include "proxy/config/loader.h"
#include "proxy/config/words.h"

// The notation of single values: durations, sizes, percentages, signals.
namespace relayd::config {
namespace {

using Unit = std::pair<std::string_view, std::uint64_t>;

constexpr Unit kDurationUnits[] = {{"ms", 1}, {"s", 1000}, {"m", 60'000}, {"h", 3'600'000}};
constexpr Unit kSizeUnits[] = {
    {"", 1}, {"B", 1}, {"KiB", 1ULL << 10}, {"MiB", 1ULL << 20}, {"GiB", 1ULL << 30}};
constexpr std::uint64_t kLongest =
    8760ULL * 3'600'000;  // a year, in milliseconds: no sum of two can overflow

constexpr std::pair<std::string_view, int> kSignals[] = {
    {"TERM", SIGTERM}, {"INT", SIGINT},   {"QUIT", SIGQUIT}, {"HUP", SIGHUP},     {"USR1", SIGUSR1},
    {"USR2", SIGUSR2}, {"ALRM", SIGALRM}, {"ABRT", SIGABRT}, {"WINCH", SIGWINCH}, {"KILL", SIGKILL},
};

// Digits and what follows them. Empty where there is no digit, or the number does not fit.
std::optional<std::pair<std::uint64_t, std::string_view>> split_number(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failure != std::errc{}) return std::nullopt;
  return std::pair{value, text.substr(static_cast<std::size_t>(end - text.data()))};
}

template <std::size_t N>
std::optional<std::uint64_t> with_unit(std::string_view text, const Unit (&units)[N], std::uint64_t most) {
  const auto parts = split_number(text);
  if (!parts) return std::nullopt;
  const auto* unit = std::ranges::find(units, parts->second, &Unit::first);
  if (unit == std::end(units) || parts->first > most / unit->second) return std::nullopt;
  return parts->first * unit->second;
}

}  // namespace

Result<Duration> parse_duration(std::string_view text) {
  const auto value = with_unit(text, kDurationUnits, kLongest);
  if (!value) {
    return fail(
        "expected a duration, a whole number with its unit (250ms, 30s, 5m, 1h; at most 8760h), not " +
        in_quotes(text));
  }
  return Duration(*value);
}

Result<std::uint64_t> parse_size(std::string_view text) {
  const auto value = with_unit(text, kSizeUnits, std::numeric_limits<std::int64_t>::max());
  if (!value) return fail("expected a size in bytes, as in 512, 64KiB, 1MiB or 2GiB, not " + in_quotes(text));
  return *value;
}

Result<unsigned> parse_percent(std::string_view text) {
  const auto parts = split_number(text);
  if (!parts || parts->second != "%" || parts->first > 100) {
    return fail("expected a percentage from 0% to 100%, as in 25%, not " + in_quotes(text));
  }
  return static_cast<unsigned>(parts->first);
}

Result<unsigned> parse_count(std::string_view text) {
  const auto parts = split_number(text);
  if (!parts || !parts->second.empty() || parts->first > std::numeric_limits<unsigned>::max()) {
    return fail("expected a whole number, not " + in_quotes(text));
  }
  return static_cast<unsigned>(parts->first);
}

Result<unsigned> parse_mode_bits(std::string_view text) {
  unsigned bits = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), bits, 8);
  if (failure != std::errc{} || end != text.data() + text.size() || bits > 0777 || !text.starts_with('0')) {
    return fail("expected permission bits in octal, with a leading 0, as in \"0600\", not " +
                in_quotes(text));
  }
  return bits;
}

Result<unsigned> parse_threads(std::string_view text) {
  if (text == "auto") return 0U;
  const auto count = parse_count(text);
  if (!count || *count == 0) return fail("expected a number of threads or auto, not " + in_quotes(text));
  return *count;
}

Result<int> parse_signal(std::string_view text) {
  const std::string_view name = text.starts_with("SIG") ? text.substr(3) : text;
  std::vector<std::string_view> known;
  for (const auto& [signal, number] : kSignals) {
    if (signal == name) return number;
    known.push_back(signal);
  }
  return fail("expected the name of a signal" + expected_one_of(name, known));
}

std::string format_duration(Duration value) {
  const auto milliseconds = value.count();
  const Unit* best = kDurationUnits;
  for (const Unit& unit : kDurationUnits) {
    if (milliseconds != 0 && milliseconds % static_cast<std::int64_t>(unit.second) == 0) best = &unit;
  }
  if (milliseconds == 0) return "0s";
  return std::to_string(milliseconds / static_cast<std::int64_t>(best->second)).append(best->first);
}

std::string format_count(std::uint64_t value) { return std::to_string(value); }

std::string format_percent(unsigned value) { return std::to_string(value) + "%"; }

std::string format_mode_bits(unsigned value) {
  char digits[16];
  const auto [end, failure] = std::to_chars(digits, digits + sizeof digits, value, 8);
  return "0" + std::string(digits, end);
}

std::string format_threads(unsigned value) { return value == 0 ? "auto" : std::to_string(value); }

std::string format_signal(int value) {
  const auto* known = std::ranges::find(kSignals, value, &std::pair<std::string_view, int>::second);
  return known == std::end(kSignals) ? std::to_string(value) : std::string(known->first);
}

}  // namespace relayd::config
