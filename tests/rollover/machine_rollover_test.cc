// Rollovers step by step: each test is one story.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/rollover/machine_fixture.h"

namespace relayd::rollover {
namespace {

using config::Mode;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST_F(Machine, FirstStartHoldsUntilReady) {
  EXPECT_THAT(send(event::Start{policy, launch}), ElementsAre("create 1", "start 1.0"));
  EXPECT_THAT(state.route, IsEmpty());
  EXPECT_THAT(ready(1), ElementsAre("route 1.0"));
}

TEST_F(Machine, FirstStartServesWithTheFirstReadyInstance) {
  launch.instances = 2;
  send(event::Start{policy, launch});
  EXPECT_THAT(ready(1, 1), ElementsAre("route 1.1"));
  EXPECT_THAT(ready(1, 0), ElementsAre("route 1.0 1.1"));
}

TEST_F(Machine, FirstStartThatFailsIsReportedAndTriedAgainWithBackOff) {
  send(event::Start{policy, launch});
  EXPECT_THAT(exited(1), ElementsAre("launch failed"));
  EXPECT_THAT(later(99ms), IsEmpty());
  EXPECT_THAT(later(1ms), ElementsAre("start 1.0"));
  exited(1);
  EXPECT_THAT(later(199ms), IsEmpty());
  EXPECT_THAT(later(1ms), ElementsAre("start 1.0"));
}

TEST_F(Machine, FirstStartThatHangsIsKilledAndReportedOnce) {
  send(event::Start{policy, launch});
  EXPECT_THAT(later(10s), ElementsAre("kill 1.0", "launch failed"));
  EXPECT_THAT(exited(1), IsEmpty());
}

TEST_F(Machine, PhasedSwitchesWhenReadyThenDrainsThenStops) {
  serve();
  EXPECT_THAT(roll(Mode::kPhased), ElementsAre("create 2", "start 2.0"));
  EXPECT_THAT(ready(2), ElementsAre("route 2.0", "drain 1", "ended done"));
  EXPECT_THAT(drained(1), ElementsAre("stop 1.0"));
  EXPECT_THAT(exited(1), IsEmpty());
  EXPECT_EQ(state.generations.size(), 1U);
}

TEST_F(Machine, PhasedWaitsForEveryInstance) {
  launch.instances = 2;
  serve();
  roll(Mode::kPhased);
  EXPECT_THAT(ready(2, 0), IsEmpty());
  EXPECT_THAT(ready(2, 1), Contains("route 2.0 2.1"));
}

TEST_F(Machine, PhasedCutsWhatIsOverdue) {
  serve();
  roll(Mode::kPhased);
  ready(2);
  EXPECT_THAT(later(30s - 1ms), IsEmpty());
  EXPECT_THAT(later(1ms), ElementsAre("cut 1", "stop 1.0"));
  EXPECT_THAT(later(5s), ElementsAre("kill 1.0"));
}

TEST_F(Machine, TunnelsMayStayLongerThanTheRest) {
  policy.tunnel_timeout = 90s;
  serve();
  roll(Mode::kPhased);
  ready(2);
  EXPECT_THAT(later(30s), ElementsAre("cut 1 plain"));
  EXPECT_THAT(later(60s - 1ms), IsEmpty());
  EXPECT_THAT(later(1ms), ElementsAre("cut 1", "stop 1.0"));
}

TEST_F(Machine, TunnelsMayHaveToGoSooner) {
  policy.tunnel_timeout = 5s;
  serve();
  roll(Mode::kPhased);
  ready(2);
  EXPECT_THAT(later(5s), ElementsAre("cut 1 tunnels"));
  EXPECT_THAT(later(25s), ElementsAre("cut 1", "stop 1.0"));
}

TEST_F(Machine, ADrainThatEndsForgetsWhatWasToBeCut) {
  policy.tunnel_timeout = 5s;
  serve();
  roll(Mode::kPhased);
  ready(2);
  EXPECT_THAT(drained(1), ElementsAre("stop 1.0"));
  EXPECT_THAT(later(5s), ElementsAre("kill 1.0"));
}

TEST_F(Machine, ClosesAreSpreadOverTheEndOfTheDrain) {
  policy.close_spread = 10s;
  serve();
  roll(Mode::kPhased);
  ready(2);
  EXPECT_EQ(next_deadline(state), now + 20s);
  EXPECT_THAT(later(20s), ElementsAre("spread 1 over 10000"));
  EXPECT_THAT(later(10s - 1ms), IsEmpty());
  EXPECT_THAT(later(1ms), ElementsAre("cut 1", "stop 1.0"));
}

TEST_F(Machine, TunnelsHaveASpreadOfTheirOwn) {
  policy.tunnel_timeout = 60s;
  policy.close_spread = 10s;
  serve();
  roll(Mode::kPhased);
  ready(2);
  EXPECT_THAT(later(20s), ElementsAre("spread 1 plain over 10000"));
  EXPECT_THAT(later(10s), ElementsAre("cut 1 plain"));
  EXPECT_THAT(later(20s), ElementsAre("spread 1 tunnels over 10000"));
  EXPECT_THAT(later(10s), ElementsAre("cut 1", "stop 1.0"));
}

TEST_F(Machine, ASpreadIsNoLongerThanTheDrainOfItsKind) {
  policy.tunnel_timeout = 5s;
  policy.close_spread = 10s;
  serve();
  roll(Mode::kPhased);
  EXPECT_THAT(ready(2), ElementsAre("route 2.0", "drain 1", "spread 1 tunnels over 5000", "ended done"));
  EXPECT_THAT(later(5s), ElementsAre("cut 1 tunnels"));
  EXPECT_THAT(later(15s), ElementsAre("spread 1 plain over 10000"));
}

TEST_F(Machine, ASpreadAsLongAsTheDrainBeginsWithIt) {
  policy.close_spread = policy.graceful_timeout;
  serve();
  roll(Mode::kPhased);
  EXPECT_THAT(ready(2), ElementsAre("route 2.0", "drain 1", "spread 1 over 30000", "ended done"));
  EXPECT_THAT(drained(1), ElementsAre("stop 1.0"));
}

TEST_F(Machine, ADrainTakenBackSpreadsNothing) {
  policy.close_spread = 10s;
  serve();
  roll(Mode::kHot);
  later(15s);
  EXPECT_THAT(send(event::Abort{}), ElementsAre("route 1.0", "ended aborted"));
  EXPECT_THAT(later(30s), IsEmpty());
}

TEST_F(Machine, PhasedLeavesTheOldOneAloneWhenTheNewOneExits) {
  serve();
  roll(Mode::kPhased);
  EXPECT_THAT(exited(2), ElementsAre("ended failed"));
  EXPECT_THAT(last_ended->reason, HasSubstr("exit status 1"));
  EXPECT_THAT(state.route, ElementsAre(RouteEntry{1, 0}));
}

TEST_F(Machine, PhasedKillsWhatIsNotReadyInTimeAndSaysWhy) {
  serve();
  roll(Mode::kPhased);
  EXPECT_THAT(later(10s), ElementsAre("ended failed", "kill 2.0"));
  EXPECT_THAT(last_ended->reason, HasSubstr("10s (ready_timeout): last check: refused"));
}

TEST_F(Machine, PhasedFailsWhenOneOfTwoDiesWhileTheOtherBoots) {
  launch.instances = 2;
  serve();
  roll(Mode::kPhased);
  ready(2, 0);
  EXPECT_THAT(exited(2, 0), ElementsAre("ended failed", "kill 2.1"));
  EXPECT_EQ(state.route.size(), 2U);
}

TEST_F(Machine, PhasedAfterAFailureWorks) {
  serve();
  roll(Mode::kPhased);
  exited(2);
  EXPECT_THAT(roll(Mode::kPhased), ElementsAre("create 3", "start 3.0"));
  EXPECT_THAT(ready(3), Contains("ended done"));
}

TEST_F(Machine, PhasedRestartsACrashedOldInstanceMeanwhile) {
  serve();
  roll(Mode::kPhased);
  EXPECT_THAT(exited(1), ElementsAre("route"));
  EXPECT_THAT(later(100ms), ElementsAre("start 1.0"));
  EXPECT_THAT(ready(1), ElementsAre("route 1.0"));
}

TEST_F(Machine, AbortOfAPhasedStartStopsTheNewOnePolitely) {
  serve();
  roll(Mode::kPhased);
  EXPECT_THAT(send(event::Abort{}), ElementsAre("ended aborted", "stop 2.0"));
  EXPECT_THAT(state.route, ElementsAre(RouteEntry{1, 0}));
}

TEST_F(Machine, OldGenerationsBeyondTheLimitAreCutOldestFirstWhenOneMoreWouldDrain) {
  serve();
  roll(Mode::kPhased);
  ready(2);
  roll(Mode::kPhased);
  ready(3);
  EXPECT_THAT(roll(Mode::kPhased), ElementsAre("create 4", "start 4.0"));
  EXPECT_THAT(exited(4), ElementsAre("ended failed")) << "nothing was cut for a rollover that failed";
  roll(Mode::kPhased);
  EXPECT_THAT(ready(5), ElementsAre("cut 1", "stop 1.0", "route 5.0", "drain 3", "ended done"));
}

TEST_F(Machine, ScaledDownAndUpAgainWhileItStartsIsNotAFailure) {
  launch.instances = 2;
  serve();
  roll(Mode::kPhased);
  send(event::Scale{1});
  send(event::Scale{2});
  EXPECT_THAT(exited(2, 1), ElementsAre("start 2.1")) << "it ended because it was told to";
  ready(2, 0);
  EXPECT_THAT(ready(2, 1), Contains("ended done"));
}

TEST_F(Machine, HotHoldsDrainsStopsThenStarts) {
  serve();
  EXPECT_THAT(roll(Mode::kHot), ElementsAre("route", "drain 1"));
  EXPECT_THAT(drained(1), ElementsAre("stop 1.0"));
  EXPECT_THAT(exited(1), ElementsAre("create 2", "start 2.0"));
  EXPECT_THAT(ready(2), ElementsAre("route 2.0", "ended done"));
}

TEST_F(Machine, HotWaitsForOlderGenerationsToo) {
  serve();
  roll(Mode::kPhased);
  ready(2);
  roll(Mode::kHot);
  drained(2);
  EXPECT_THAT(exited(2), IsEmpty()) << "generation 1 still drains: two copies must not run at once";
  drained(1);
  EXPECT_THAT(exited(1), ElementsAre("create 3", "start 3.0"));
}

TEST_F(Machine, HotThatFailsComesBackToThePreviousDefinition) {
  serve();
  roll(Mode::kHot);
  drained(1);
  exited(1);
  EXPECT_THAT(exited(2), ElementsAre("create 3 as 1", "start 3.0"));
  EXPECT_EQ(state.phase, Phase::kRestoring);
  EXPECT_THAT(ready(3), ElementsAre("route 3.0", "ended failed"));
  EXPECT_EQ(state.phase, Phase::kServing);
}

TEST_F(Machine, HotThatFailsStartsThePreviousOneOnlyWhenTheNewOneIsGone) {
  serve();
  roll(Mode::kHot);
  drained(1);
  exited(1);
  EXPECT_THAT(later(10s), ElementsAre("kill 2.0"));
  EXPECT_THAT(exited(2), ElementsAre("create 3 as 1", "start 3.0"));
}

TEST_F(Machine, HotWhoseWayBackFailsToo) {
  serve();
  roll(Mode::kHot);
  drained(1);
  exited(1);
  exited(2);
  EXPECT_THAT(exited(3), ElementsAre("launch failed", "ended failed"));
  EXPECT_THAT(last_ended->reason, HasSubstr("does not start either"));
  EXPECT_THAT(later(100ms), ElementsAre("start 3.0")) << "it is tried again";
}

TEST_F(Machine, AbortWhileAHotRolloverDrainsGivesTheOldOneItsClientsBack) {
  serve();
  roll(Mode::kHot);
  EXPECT_THAT(send(event::Abort{}), ElementsAre("route 1.0", "ended aborted"));
  EXPECT_THAT(drained(1), IsEmpty()) << "the answer to a drain that was taken back";
  EXPECT_THAT(state.route, ElementsAre(RouteEntry{1, 0}));
}

TEST_F(Machine, AbortWhileAHotRolloverStopsStartsThePreviousDefinitionAgain) {
  serve();
  roll(Mode::kHot);
  drained(1);
  EXPECT_THAT(send(event::Abort{}), IsEmpty());
  EXPECT_THAT(exited(1), ElementsAre("create 2 as 1", "start 2.0"));
  EXPECT_THAT(ready(2), ElementsAre("route 2.0", "ended aborted"));
}

TEST_F(Machine, RestartCutsAndStopsAtOnce) {
  serve();
  EXPECT_THAT(roll(Mode::kRestart), ElementsAre("route", "cut 1", "stop 1.0"));
  EXPECT_THAT(exited(1), ElementsAre("create 2", "start 2.0"));
  EXPECT_THAT(ready(2), ElementsAre("route 2.0", "ended done"));
}

TEST_F(Machine, AnAppThatDrainsItselfIsToldAtOnceAndKilledOnlyAfterTheDrain) {
  launch.stop = config::StopWhen::kAtOnce;
  serve();
  roll(Mode::kPhased);
  EXPECT_THAT(ready(2), ElementsAre("route 2.0", "drain 1", "stop 1.0", "ended done"));
  EXPECT_THAT(later(29s), IsEmpty()) << "kill_timeout does not count while it drains";
  EXPECT_THAT(drained(1), IsEmpty());
  EXPECT_THAT(later(5s), ElementsAre("kill 1.0"));
}

TEST_F(Machine, ASecondRolloverIsRefusedAndASignalIsRememberedOnce) {
  serve();
  roll(Mode::kPhased);
  EXPECT_FALSE(may_roll_over(state));
  EXPECT_THAT(roll(Mode::kHot), IsEmpty());
  send(event::RolloverLater{});
  send(event::RolloverLater{});
  EXPECT_THAT(ready(2), ElementsAre("route 2.0", "drain 1", "ended done", "want rollover"));
  EXPECT_FALSE(state.again);
}

}  // namespace
}  // namespace relayd::rollover
