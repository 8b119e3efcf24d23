// A phased rollover with a surge: some instances at a time, and back where that fails.
#include "tests/rollover/machine_fixture.h"

namespace relayd::rollover {
namespace {

using config::Mode;
using testing::ElementsAre;
using testing::IsEmpty;

class Surge : public Machine {
 protected:
  // A rollover of so many instances, one by one.
  void begin(unsigned instances) {
    policy.surge = {1, false};
    launch.instances = instances;
    serve();
    roll(Mode::kPhased);
  }
  // The new one gets ready, and the old one drains and ends.
  void replace(InstanceIndex next, InstanceIndex old) {
    ready(2, next);
    drained(1);
    exited(1, old);
  }
};

TEST_F(Surge, OneByOne) {
  policy.surge = {1, false};
  launch.instances = 2;
  serve();
  EXPECT_THAT(roll(Mode::kPhased), ElementsAre("create 2", "start 2.0"));
  EXPECT_THAT(ready(2, 0), ElementsAre("route 1.0 2.0", "drain 1.1"));
  EXPECT_THAT(drained(1), ElementsAre("stop 1.1"));  // only now is there room for the next one
  EXPECT_THAT(exited(1, 1), ElementsAre("start 2.1"));
  EXPECT_THAT(ready(2, 1), ElementsAre("route 2.0 2.1", "drain 1", "ended done"));
  EXPECT_THAT(drained(1), ElementsAre("stop 1.0"));
  EXPECT_EQ(state.phase, Phase::kServing);
}

TEST_F(Surge, AsManyAtOnceAsTheSurgeSays) {
  policy.surge = {50, true};
  launch.instances = 3;
  serve();
  EXPECT_THAT(roll(Mode::kPhased), ElementsAre("create 2", "start 2.0", "start 2.1"));  // rounded up
  policy.surge = {3, false};
  EXPECT_EQ(state.phase, Phase::kReplacing);
  send(event::Abort{});
  exited(2, 0);
  exited(2, 1);
  EXPECT_THAT(roll(Mode::kPhased), ElementsAre("create 3", "start 3.0", "start 3.1", "start 3.2"));
  EXPECT_EQ(state.phase, Phase::kPhasedStart);
}

TEST_F(Surge, AFailureAtTheFirstLeavesTheOldOnesUntouched) {
  begin(2);
  EXPECT_THAT(exited(2, 0), ElementsAre("ended failed"));
  EXPECT_EQ(state.phase, Phase::kServing);
  EXPECT_EQ(last_ended->reason, "instance 0 of generation 2: exit status 1");
}

TEST_F(Surge, AFailureHalfWayBringsBackTheOldOnes) {
  begin(3);
  ready(2, 0);
  drained(1);
  EXPECT_THAT(exited(1, 2), ElementsAre("start 2.1"));
  EXPECT_THAT(ready(2, 1), ElementsAre("route 1.0 2.0 2.1", "drain 1.1"));
  drained(1);
  EXPECT_THAT(exited(1, 1), ElementsAre("start 2.2"));
  EXPECT_THAT(later(launch.ready_timeout), ElementsAre("kill 2.2"));
  EXPECT_EQ(state.phase, Phase::kReplacingBack);
  EXPECT_THAT(exited(2, 2), ElementsAre("start 1.1"));  // there is room again
  EXPECT_THAT(ready(1, 1), ElementsAre("route 1.0 1.1 2.0", "drain 2.1"));
  drained(2);
  EXPECT_THAT(exited(2, 1), ElementsAre("start 1.2"));
  EXPECT_THAT(ready(1, 2), ElementsAre("route 1.0 1.1 1.2", "drain 2", "ended failed"));
  EXPECT_EQ(state.phase, Phase::kServing);
  EXPECT_THAT(last_ended->reason, testing::StartsWith("instance 2 of generation 2: not ready within 10s"));
}

TEST_F(Surge, WhatHasFailedIsNotStartedAgainOnTheWayBack) {
  begin(3);
  replace(0, 2);
  ready(2, 1);
  EXPECT_THAT(exited(2, 0), ElementsAre("start 1.2", "route 1.0 1.1 2.1"));  // 1.1 was draining
  drained(1);
  EXPECT_EQ(state.phase, Phase::kReplacingBack);
}

TEST_F(Surge, DrainingGenerationsCountToo) {
  begin(2);
  replace(0, 1);
  ready(2, 1);  // done, while 1.0 still has clients
  EXPECT_THAT(roll(Mode::kPhased), ElementsAre("create 3"));
  drained(1);
  EXPECT_THAT(exited(1, 0), ElementsAre("start 3.0"));
}

TEST_F(Surge, WhatDrainsYetIsBroughtBackAtOnce) {
  begin(2);
  ready(2, 0);
  EXPECT_THAT(send(event::Abort{}), ElementsAre("route 1.0 1.1", "drain 2", "ended aborted"));
  EXPECT_THAT(drained(1), IsEmpty());
}

TEST_F(Surge, WhereTheOldOneDoesNotComeBackWhatServesStays) {
  begin(2);
  replace(0, 1);
  EXPECT_THAT(exited(2, 1), ElementsAre("start 1.1"));
  EXPECT_THAT(exited(1, 1), ElementsAre("route 1.0", "drain 2", "ended failed"));
  EXPECT_THAT(last_ended->reason, testing::HasSubstr("does not start either"));
  EXPECT_THAT(later(1s), ElementsAre("start 1.1"));
}

TEST_F(Surge, ScaledWhileInstancesAreReplaced) {
  begin(2);
  EXPECT_THAT(send(event::Scale{3}), IsEmpty());
  EXPECT_THAT(ready(2, 0),
              ElementsAre("start 2.1", "route 1.0 1.1 2.0"));  // three have to serve from here on
  EXPECT_THAT(ready(2, 1), ElementsAre("route 1.0 2.0 2.1", "drain 1.1"));
  drained(1);
  EXPECT_THAT(exited(1, 1), ElementsAre("start 2.2"));
  EXPECT_THAT(ready(2, 2), ElementsAre("route 2.0 2.1 2.2", "drain 1", "ended done"));
}

TEST_F(Surge, AStopWhileInstancesAreReplaced) {
  begin(2);
  ready(2, 0);
  EXPECT_THAT(send(event::Stop{}), ElementsAre("ended aborted", "route 1.0", "drain 2", "stop accepting"));
}

}  // namespace
}  // namespace relayd::rollover
