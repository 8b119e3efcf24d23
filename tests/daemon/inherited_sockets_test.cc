// What sd_listen_fds(3) promises, taken at its word only where it is meant for this process.
#include "proxy/daemon/inherited_sockets.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace relayd {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(InheritedSockets, NamesInTheirOrder) {
  EXPECT_THAT(*passed_names("7", "2", "web:admin", 7), ElementsAre("web", "admin"));
  EXPECT_THAT(*passed_names("7", "2", "web:web", 7), ElementsAre("web", "web"));
  EXPECT_THAT(*passed_names("7", "3", "web:", 7), ElementsAre("web", "unknown", "unknown"));
  EXPECT_THAT(*passed_names("7", "1", nullptr, 7), ElementsAre("unknown"));
  EXPECT_THAT(*passed_names("7", "1", "web:more:than:promised", 7), ElementsAre("web"));
  EXPECT_THAT(*passed_names(nullptr, nullptr, nullptr, 7), IsEmpty());
  EXPECT_THAT(*passed_names("7", "0", "", 7), IsEmpty());
}

TEST(InheritedSockets, ForSomebodyElseOrNonsense) {
  EXPECT_THAT(passed_names("8", "1", "web", 7).error().message, HasSubstr("has to exec it"));
  EXPECT_THAT(passed_names(nullptr, "1", "web", 7).error().message, HasSubstr("LISTEN_PID is ''"));
  EXPECT_THAT(passed_names("7x", "1", "web", 7).error().message, HasSubstr("LISTEN_PID is '7x'"));
  EXPECT_THAT(passed_names("7", "-1", "web", 7).error().message, HasSubstr("LISTEN_FDS is '-1'"));
  EXPECT_THAT(passed_names("7", "many", "web", 7).error().message, HasSubstr("LISTEN_FDS is 'many'"));
  EXPECT_THAT(passed_names("7", "99999999999999999999", "web", 7).error().message, HasSubstr("LISTEN_FDS"));
}

TEST(InheritedSockets, WithoutAnyTheErrorSaysSo) {
  const auto found = InheritedSockets().named("web");
  ASSERT_FALSE(found);
  EXPECT_THAT(found.error().message, HasSubstr("none were passed: LISTEN_FDS is not set"));
  EXPECT_THAT(found.error().message, HasSubstr("FileDescriptorName="));
}

}  // namespace
}  // namespace relayd
