#include "control/protocol/nearest.h"

#include <algorithm>
#include <numeric>

namespace relayd::control {
namespace {

// Beyond this a word is not a typing error; bounds the work a stranger's message can cause.
constexpr std::size_t kLongestWord = 64;

// Insertions, deletions, replacements and swaps of neighbours that turn `a` into `b`.
std::size_t edits(std::string_view a, std::string_view b) {
  std::vector<std::size_t> before(b.size() + 1), row(b.size() + 1), next(b.size() + 1);
  std::iota(row.begin(), row.end(), std::size_t{0});
  for (std::size_t i = 1; i <= a.size(); ++i) {
    next[0] = i;
    for (std::size_t j = 1; j <= b.size(); ++j) {
      next[j] = std::min({row[j] + 1, next[j - 1] + 1, row[j - 1] + (a[i - 1] == b[j - 1] ? 0 : 1)});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1]) {
        next[j] = std::min(next[j], before[j - 2] + 1);
      }
    }
    before = row;
    row = next;
  }
  return row[b.size()];
}

}  // namespace

std::string nearest(std::string_view word, const std::vector<std::string_view>& names) {
  if (word.empty() || word.size() > kLongestWord) return {};
  std::string_view best;
  std::size_t best_edits = std::max<std::size_t>(1, (word.size() + 2) / 3) + 1;
  for (const std::string_view name : names) {
    if (const std::size_t count = edits(word, name); count < best_edits) {
      best = name;
      best_edits = count;
    }
  }
  return std::string(best);
}

}  // namespace relayd::control
