#include "proxy/base/utf8.h"

#include <gtest/gtest.h>

#include <string>

namespace relayd {
namespace {

TEST(Utf8, LengthOfTheFirstCharacter) {
  const struct {
    std::string_view text;
    std::size_t length;
  } rows[] = {
      {"a", 1},
      {std::string_view("\0", 1), 1},
      {"\xc3\xa9x", 2},
      {"\xe2\x82\xac", 3},
      {"\xf0\x9f\x98\x80", 4},
      {"\xf4\x8f\xbf\xbf", 4},  // U+10FFFF
      {"\x80", 0},              // a continuation alone
      {"\xc3", 0},              // cut short
      {"\xc3(", 0},             // no continuation
      {"\xc0\xaf", 0},          // overlong
      {"\xe0\x80\xaf", 0},      // overlong
      {"\xf0\x80\x80\xaf", 0},  // overlong
      {"\xed\xa0\x80", 0},      // a surrogate
      {"\xf4\x90\x80\x80", 0},  // above U+10FFFF
      {"\xff", 0},
  };
  for (const auto& row : rows)
    EXPECT_EQ(utf8_length(row.text), row.length) << testing::PrintToString(row.text);
}

}  // namespace
}  // namespace relayd
