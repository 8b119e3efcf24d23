#include "control/relayctl/duration.h"

#include <array>
#include <charconv>
#include <cstdint>
#include <string>
#include <utility>

namespace relayd::relayctl {

Result<Duration> parse_duration(std::string_view text) {
  constexpr std::array<std::pair<std::string_view, std::int64_t>, 4> units{
      {{"ms", 1}, {"s", 1000}, {"m", 60'000}, {"h", 3'600'000}}};
  constexpr std::int64_t kMost = 366LL * 24 * 3'600'000;  // a year: what is longer is a typing error
  const auto wrong = [&] {
    return fail("\"" + std::string(text) + "\" is no duration; write it as 500ms, 30s, 5m or 1h");
  };
  std::int64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || number <= 0) return wrong();
  const std::string_view unit(end, static_cast<std::size_t>(text.data() + text.size() - end));
  for (const auto& [name, ms] : units) {
    if (unit != name) continue;
    if (number > kMost / ms) return wrong();
    return Duration(number * ms);
  }
  return wrong();
}

}  // namespace relayd::relayctl
