// Generations whose processes own their clients (handoff): told to end first, drained when they have, cut by
// KILL.
#include "tests/rollover/machine_fixture.h"

namespace relayd::rollover {
namespace {

using testing::ElementsAre;

class MachineHandoff : public Machine {
 protected:
  void SetUp() override {
    launch.stop = config::StopWhen::kAtOnce;
    launch.owns_clients = true;
    launch.instances = 2;
    serve();
  }
};

TEST_F(MachineHandoff, PhasedStopsTheOldOneAtTheSwitchAndItsEndEndsTheDrain) {
  EXPECT_THAT(roll(config::Mode::kPhased), ElementsAre("create 2", "start 2.0", "start 2.1"));
  EXPECT_THAT(ready(2, 0), ElementsAre());
  EXPECT_THAT(ready(2, 1), ElementsAre("route 2.0 2.1", "stop 1.0", "stop 1.1", "ended done"));
  EXPECT_THAT(later(29s), ElementsAre()) << "they have graceful_timeout, not kill_timeout";
  exited(1, 0);
  EXPECT_EQ(state.find(1)->state, GenerationState::kDraining);
  exited(1, 1);
  EXPECT_EQ(state.find(1), nullptr);
  EXPECT_EQ(next_deadline(state), std::nullopt);
}

TEST_F(MachineHandoff, WhatHasNotEndedAtGracefulTimeoutIsKilled) {
  roll(config::Mode::kPhased);
  ready(2, 0);
  ready(2, 1);
  exited(1, 0);
  EXPECT_THAT(later(30s), ElementsAre("kill 1.1"));
  exited(1, 1);
  EXPECT_EQ(state.find(1), nullptr);
}

TEST_F(MachineHandoff, HotStartsWhenTheOldOneHasEnded) {
  EXPECT_THAT(roll(config::Mode::kHot), ElementsAre("route", "stop 1.0", "stop 1.1"));
  exited(1, 0);
  EXPECT_THAT(exited(1, 1), ElementsAre("create 2", "start 2.0", "start 2.1"));
  ready(2, 0);
  EXPECT_THAT(ready(2, 1), ElementsAre("route 2.0 2.1", "ended done"));
}

TEST_F(MachineHandoff, HotKillsAtGracefulTimeout) {
  roll(config::Mode::kHot);
  EXPECT_THAT(later(30s), ElementsAre("kill 1.0", "kill 1.1"));
}

TEST_F(MachineHandoff, RestartGivesKillTimeout) {
  EXPECT_THAT(roll(config::Mode::kRestart), ElementsAre("route", "cut 1", "stop 1.0", "stop 1.1"));
  EXPECT_THAT(later(5s), ElementsAre("kill 1.0", "kill 1.1"));
}

TEST_F(MachineHandoff, AnAbortedHotRolloverGoesBackToThePreviousDefinition) {
  roll(config::Mode::kHot);
  send(event::Abort{});
  exited(1, 0);
  EXPECT_THAT(exited(1, 1), ElementsAre("create 2 as 1", "start 2.0", "start 2.1"));
}

TEST_F(MachineHandoff, OneTooManyHasGracefulTimeout) {
  EXPECT_THAT(send(event::Scale{1}), ElementsAre("stop 1.1", "route 1.0"));
  EXPECT_THAT(later(29s), ElementsAre());
  EXPECT_THAT(later(1s), ElementsAre("kill 1.1"));
}

TEST_F(MachineHandoff, ACrashedOneThatWaitsForItsRestartDoesNotHoldUpTheDrain) {
  exited(1, 0);
  exited(1, 1);
  EXPECT_THAT(roll(config::Mode::kHot), ElementsAre("create 2", "start 2.0", "start 2.1"));
}

TEST_F(MachineHandoff, PauseAndStopEndWithTheProcesses) {
  EXPECT_THAT(send(event::Pause{}), ElementsAre("route", "stop 1.0", "stop 1.1"));
  exited(1, 0);
  exited(1, 1);
  EXPECT_EQ(state.phase, Phase::kPaused);
  send(event::Resume{});
  ready(2, 0);
  ready(2, 1);
  send(event::Stop{});
  EXPECT_THAT(send(event::AcceptingStopped{}), ElementsAre("route", "stop 2.0", "stop 2.1", "close held"));
  exited(2, 0);
  EXPECT_THAT(exited(2, 1), ElementsAre("stopped"));
}

}  // namespace
}  // namespace relayd::rollover
