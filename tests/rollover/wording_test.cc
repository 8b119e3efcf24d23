#include "proxy/rollover/wording.h"

#include <gmock/gmock.h>

namespace relayd::rollover {
namespace {

using testing::Contains;
using testing::Pair;

TEST(Wording, CountsStandBesideWhatTheEventSays) {
  Report report;
  report.mode = config::Mode::kHot;
  report.from = 1;
  report.to = 2;
  Happening happening = describe(report, 2);
  net::ServiceCounts counts;
  counts.requests = 1200;
  counts.crossings = 64;
  counts.sent_again = 2;
  counts.answered = 3;
  add_counts(happening, counts);
  EXPECT_EQ(happening.type, "rollover_done");
  EXPECT_THAT(happening.details, Contains(Pair("mode", "hot")));
  EXPECT_THAT(happening.details, Contains(Pair("requests", "1200")));
  EXPECT_THAT(happening.details, Contains(Pair("crossings", "64")));
  EXPECT_THAT(happening.details, Contains(Pair("sent_again", "2")));
  EXPECT_THAT(happening.details, Contains(Pair("answered", "3")));
}

}  // namespace
}  // namespace relayd::rollover
