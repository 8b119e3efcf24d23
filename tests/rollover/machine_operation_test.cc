// Crashes, scaling, pausing and stopping step by step: each test is one story.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/rollover/machine_fixture.h"

namespace relayd::rollover {
namespace {

using config::Mode;
using testing::Contains;
using testing::ElementsAre;
using testing::IsEmpty;
using testing::Not;

TEST_F(Machine, ACrashedInstanceIsLeftOutThenStartedAgain) {
  launch.instances = 2;
  serve();
  EXPECT_THAT(exited(1, 0), ElementsAre("route 1.1"));
  EXPECT_THAT(later(100ms), ElementsAre("start 1.0"));
  EXPECT_THAT(ready(1, 0), ElementsAre("route 1.0 1.1"));
}

TEST_F(Machine, BackOffDoublesToItsMaximumAndStartsAnewAfterALongRun) {
  serve();
  for (const Duration wait : {100ms, 200ms, 400ms, 800ms, 1000ms, 1000ms}) {
    exited(1);
    EXPECT_EQ(*next_deadline(state) - now, wait);
    later(wait);
    ready(1);
  }
  later(1s);
  exited(1);
  EXPECT_EQ(*next_deadline(state) - now, 100ms);
}

TEST_F(Machine, AnUnhealthyInstanceLeavesTheRouteAndComesBack) {
  serve();
  EXPECT_THAT(send(event::InstanceUnhealthy{1, 0, "GET /up: 500"}), ElementsAre("route"));
  EXPECT_THAT(send(event::InstanceHealthy{1, 0}), ElementsAre("route 1.0"));
}

TEST_F(Machine, ScaleUpStartsAndScaleDownDrainsTheLastOnes) {
  serve();
  EXPECT_THAT(send(event::Scale{2}), ElementsAre("start 1.1"));
  EXPECT_THAT(ready(1, 1), ElementsAre("route 1.0 1.1"));
  EXPECT_THAT(send(event::Scale{1}), ElementsAre("route 1.0", "drain 1.1"));
  EXPECT_THAT(drained(1), ElementsAre("stop 1.1"));
  EXPECT_THAT(exited(1, 1), IsEmpty());
  EXPECT_EQ(state.generations[0].instances.size(), 1U);
}

TEST_F(Machine, ScaleDownGivesTunnelsTheirOwnTime) {
  policy.tunnel_timeout = 40s;
  serve();
  send(event::Scale{2});
  ready(1, 1);
  send(event::Scale{1});
  EXPECT_THAT(later(29s), IsEmpty());
  EXPECT_THAT(later(1s), ElementsAre("cut 1.1 plain"));
  EXPECT_THAT(later(9s), IsEmpty());
  EXPECT_THAT(later(1s), ElementsAre("cut 1.1", "stop 1.1"));
}

TEST_F(Machine, ScaledDownAndUpAgainBeforeItStopped) {
  serve();
  send(event::Scale{2});
  ready(1, 1);
  send(event::Scale{1});
  EXPECT_THAT(send(event::Scale{2}), ElementsAre("route 1.0 1.1"));
  EXPECT_THAT(drained(1), IsEmpty());
}

TEST_F(Machine, PauseDrainsStopsAndHolds) {
  serve();
  EXPECT_THAT(send(event::Pause{}), ElementsAre("route", "drain 1"));
  EXPECT_THAT(drained(1), ElementsAre("stop 1.0"));
  exited(1);
  EXPECT_EQ(state.phase, Phase::kPaused);
  EXPECT_THAT(send(event::Resume{}), ElementsAre("create 2 as 1", "start 2.0"));
  EXPECT_THAT(ready(2), ElementsAre("route 2.0"));
}

TEST_F(Machine, ResumeWhileThePauseStillDrains) {
  serve();
  send(event::Pause{});
  EXPECT_THAT(send(event::Resume{}), ElementsAre("route 1.0"));
  EXPECT_EQ(state.phase, Phase::kServing);
}

TEST_F(Machine, ARolloverBringsAPausedServiceBack) {
  serve();
  send(event::Pause{});
  drained(1);
  exited(1);
  EXPECT_THAT(roll(Mode::kPhased), ElementsAre("create 2", "start 2.0"));
  EXPECT_THAT(ready(2), ElementsAre("route 2.0", "ended done"));
}

TEST_F(Machine, AbortOfARolloverBegunWhilePausedGoesBackToThePause) {
  serve();
  send(event::Pause{});
  drained(1);
  exited(1);
  roll(Mode::kPhased);
  EXPECT_THAT(send(event::Abort{}), ElementsAre("ended aborted", "stop 2.0"));
  exited(2);
  EXPECT_EQ(state.phase, Phase::kPaused);
}

TEST_F(Machine, AReloadChangesTheTimeLimitsOfWhatRuns) {
  serve();
  Launch adjusted = launch;
  adjusted.kill_timeout = 1s;
  send(event::Adjust{policy, adjusted});
  roll(Mode::kPhased);
  ready(2);
  drained(1);
  EXPECT_THAT(later(1s), ElementsAre("kill 1.0"));
}

TEST_F(Machine, AProcessThatKillDoesNotEndIsToldOfAndNotWaitedForAtTheEnd) {
  serve();
  send(event::Stop{true, false});
  send(event::AcceptingStopped{});
  EXPECT_THAT(later(5s), ElementsAre("kill 1.0"));
  EXPECT_THAT(later(10s), ElementsAre("stopped"));
}

TEST_F(Machine, PauseAbortsARollover) {
  serve();
  roll(Mode::kPhased);
  EXPECT_THAT(send(event::Pause{}), ElementsAre("ended aborted", "stop 2.0", "route", "drain 1"));
}

TEST_F(Machine, GracefulStopEmptiesTheQueueThenDrainsThenStops) {
  serve();
  EXPECT_THAT(send(event::Stop{false, false}), ElementsAre("stop accepting"));
  EXPECT_THAT(state.route, ElementsAre(RouteEntry{1, 0})) << "what was in the queue is still served";
  EXPECT_THAT(send(event::AcceptingStopped{}), ElementsAre("route", "drain 1", "close held"));
  EXPECT_THAT(drained(1), ElementsAre("stop 1.0"));
  EXPECT_THAT(exited(1), ElementsAre("stopped"));
}

TEST_F(Machine, GracefulStopDuringAHotRolloverServesTheHeldClientsFirst) {
  serve();
  roll(Mode::kHot);
  EXPECT_THAT(send(event::Stop{false, true}), ElementsAre("stop accepting"));
  send(event::AcceptingStopped{});
  drained(1);
  EXPECT_THAT(exited(1), ElementsAre("create 2", "start 2.0"));
  EXPECT_THAT(ready(2), ElementsAre("route 2.0", "ended done", "stop accepting"));
  EXPECT_THAT(state.route, ElementsAre(RouteEntry{2, 0})) << "those who waited are given to it";
  EXPECT_THAT(send(event::AcceptingStopped{}), ElementsAre("route", "drain 2", "close held"));
  drained(2);
  EXPECT_THAT(exited(2), ElementsAre("stopped"));
}

TEST_F(Machine, GracefulStopWithHeldClientsIsBounded) {
  send(event::Start{policy, launch});
  send(event::Stop{false, true});
  send(event::AcceptingStopped{});
  later(10s);
  exited(1);
  EXPECT_THAT(later(20s), Contains("close held"));
  EXPECT_EQ(state.phase, Phase::kStopping);
}

TEST_F(Machine, FastStopCutsEverything) {
  serve();
  EXPECT_THAT(send(event::Stop{true, true}),
              ElementsAre("stop accepting", "route", "cut 1", "stop 1.0", "close held"));
  EXPECT_THAT(later(5s), ElementsAre("kill 1.0"));
  exited(1);
  EXPECT_THAT(send(event::AcceptingStopped{}), Contains("stopped"));
}

TEST_F(Machine, FastStopAfterAGracefulOne) {
  serve();
  send(event::Stop{false, false});
  send(event::AcceptingStopped{});
  EXPECT_THAT(send(event::Stop{true, false}), Contains("cut 1"));
}

TEST_F(Machine, ACrashWhileStoppingIsNotRestarted) {
  serve();
  send(event::Stop{false, false});
  EXPECT_THAT(exited(1), Not(Contains("start 1.0")));
  EXPECT_EQ(next_deadline(state), Deadline{});
}

TEST_F(Machine, LateReportsChangeNothing) {
  serve();
  const State before = state;
  send(event::InstanceReady{7, 0});
  send(event::InstanceExited{1, 9, "late"});
  send(event::Drained{99});
  send(event::AcceptingStopped{});
  send(event::Abort{});
  send(event::Resume{});
  EXPECT_EQ(state, before);
}

}  // namespace
}  // namespace relayd::rollover
