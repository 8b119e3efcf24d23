#include "tests/http/corpus.h"

#include <gtest/gtest.h>

#include <set>

namespace relayd::http {
namespace {

const std::vector<Case>& corpus() {
  static const std::vector<Case> cases = read_corpus(RELAYD_HTTP_CORPUS);
  return cases;
}

void expect_as_told(const Case& wanted, const Follower& follower, const std::string& how) {
  EXPECT_EQ(follower.first(), wanted.expected) << wanted.name << ", " << how;
  EXPECT_EQ(follower.marks(), wanted.marks) << wanted.name << ", " << how;
  EXPECT_EQ(follower.broken(), "") << wanted.name << ", " << how;
}

TEST(Corpus, IsLargeAndItsNamesDiffer) {
  std::set<std::string> names;
  for (const Case& one : corpus()) EXPECT_TRUE(names.insert(one.name).second) << one.name;
  EXPECT_GE(names.size(), 150u);
}

TEST(Corpus, Whole) {
  for (const Case& one : corpus()) {
    Follower follower(one.side, one.context);
    follower.feed(one.bytes);
    expect_as_told(one, follower, "whole");
  }
}

TEST(Corpus, ByteByByte) {
  for (const Case& one : corpus()) {
    for (const bool with_skip : {false, true}) {
      Follower follower(one.side, one.context, with_skip);
      for (const char& byte : one.bytes) follower.feed({&byte, 1});
      expect_as_told(one, follower, "byte by byte");
    }
  }
}

// At every byte of short streams; of long ones, at those near their ends and some between.
TEST(Corpus, AtEverySplit) {
  for (const Case& one : corpus()) {
    const std::size_t size = one.bytes.size();
    for (std::size_t at = 0; at <= size; at += size > 2000 && at > 200 && at + 200 < size ? size / 64 : 1) {
      Follower follower(one.side, one.context, at % 2 == 1);
      follower.feed(std::string_view(one.bytes).substr(0, at));
      follower.feed(std::string_view(one.bytes).substr(at));
      expect_as_told(one, follower, "split at " + std::to_string(at));
      if (HasFailure()) return;
    }
  }
}

// Whoever follows a stream and whoever sees its beginning only must not differ about what both have seen.
TEST(Corpus, AMessageIsNotOverBeforeItsEnd) {
  for (const Case& one : corpus()) {
    if (one.marks.empty() || one.expected.find("refused") != std::string::npos || one.bytes.size() > 2000)
      continue;
    for (std::size_t size = 0; size < one.marks[0]; ++size) {
      Follower follower(one.side, one.context);
      follower.feed(std::string_view(one.bytes).substr(0, size));
      EXPECT_TRUE(follower.marks().empty()) << one.name << ", " << size << " bytes";
      EXPECT_FALSE(follower.refused()) << one.name << ", " << size << " bytes";
    }
  }
}

}  // namespace
}  // namespace relayd::http
