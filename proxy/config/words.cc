#include "proxy/config/words.h"

#include <algorithm>
#include <cctype>
#include <cstddef>

#include "proxy/config/loader.h"

namespace relayd::config {
namespace {

constexpr std::size_t kShown = 60;  // bytes of somebody else's text in a message
constexpr std::size_t kLongestCompared =
    64;  // no name of ours is longer; keeps the comparison cheap on hostile files

// What people confuse is taken as equal: case, and "-" for "_".
char folded(char c) {
  return c == '-' ? '_' : static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
}

// Optimal string alignment: insertions, deletions, substitutions and swapped neighbours cost one each.
std::size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before(b.size() + 1);
  std::vector<std::size_t> last(b.size() + 1);
  std::vector<std::size_t> now(b.size() + 1);
  for (std::size_t j = 0; j <= b.size(); ++j) last[j] = j;
  for (std::size_t i = 1; i <= a.size(); ++i) {
    now[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      const char x = folded(a[i - 1]);
      const char y = folded(b[j - 1]);
      now[j] = std::min({last[j] + 1, now[j - 1] + 1, last[j - 1] + (x == y ? 0 : 1)});
      if (i > 1 && j > 1 && x == folded(b[j - 2]) && folded(a[i - 2]) == y)
        now[j] = std::min(now[j], before[j - 2] + 1);
    }
    before.swap(last);
    last.swap(now);
  }
  return last[b.size()];
}

}  // namespace

std::string nearest(std::string_view name, const std::vector<std::string_view>& known) {
  if (name.empty() || name.size() > kLongestCompared) return "";
  std::string_view best;
  std::size_t least = std::max<std::size_t>(1, (name.size() + 1) / 3) + 1;
  for (const std::string_view candidate : known) {
    if (const std::size_t distance = edit_distance(name, candidate); distance < least) {
      least = distance;
      best = candidate;
    }
  }
  if (!best.empty() || name.size() < 3) return std::string(best);
  // Cut short or drawn out: "graceful" for graceful_timeout, where only one name can be meant.
  for (const std::string_view candidate : known) {
    if (!candidate.starts_with(name) && (candidate.size() < 3 || !name.starts_with(candidate))) continue;
    if (!best.empty()) return "";
    best = candidate;
  }
  return std::string(best);
}

std::string in_quotes(std::string_view text) {
  std::string out = "'";
  std::size_t end = std::min(text.size(), kShown);
  // Never cut inside a UTF-8 character.
  while (end < text.size() && end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0U) == 0x80U) --end;
  for (const char c : text.substr(0, end)) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte == 0x7F) {
      constexpr char kHex[] = "0123456789abcdef";
      out.append("\\x").push_back(kHex[byte >> 4]);
      out.push_back(kHex[byte & 15]);
    } else {
      out.push_back(c);
    }
  }
  return out.append(end < text.size() ? "…'" : "'");
}

std::string list_of(const std::vector<std::string_view>& words) {
  std::string out;
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (i > 0) out.append(i + 1 == words.size() ? " or " : ", ");
    out.append(words[i]);
  }
  return out;
}

std::string expected_one_of(std::string_view text, const std::vector<std::string_view>& known) {
  std::string out = " (" + list_of(known) + "), not " + in_quotes(text);
  if (const std::string meant = nearest(text, known); !meant.empty())
    out += "; did you mean '" + meant + "'?";
  return out;
}

}  // namespace relayd::config
