// The rollover machine step by step: each test is one story of a rollover.
#include "proxy/rollover/machine.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sstream>

namespace relayd::rollover {
namespace {

using config::Mode;
using std::chrono_literals::operator""ms;
using std::chrono_literals::operator""s;
using testing::Contains;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

// An action as a word, notes left out: "start 2.0", "route 1.0 1.1", "ended failed".
std::string word(const Action& action) {
  std::ostringstream out;
  const auto where = [&out](const char* verb, GenerationNumber g, int i) {
    out << verb << " " << g;
    if (i >= 0) out << "." << i;
  };
  std::visit(
      [&](const auto& a) {
        using A = std::decay_t<decltype(a)>;
        if constexpr (std::is_same_v<A, action::CreateGeneration>) {
          out << "create " << a.generation;
          if (a.copy_of != 0) out << " as " << a.copy_of;
        } else if constexpr (std::is_same_v<A, action::StartInstance>) {
          where("start", a.generation, a.instance);
        } else if constexpr (std::is_same_v<A, action::StopInstance>) {
          where("stop", a.generation, a.instance);
        } else if constexpr (std::is_same_v<A, action::KillInstance>) {
          where("kill", a.generation, a.instance);
        } else if constexpr (std::is_same_v<A, action::SetRoute>) {
          out << "route";
          for (const RouteEntry& e : a.route) out << " " << e.generation << "." << e.instance;
        } else if constexpr (std::is_same_v<A, action::Drain>) {
          where("drain", a.generation, a.instance);
        } else if constexpr (std::is_same_v<A, action::Cut>) {
          where("cut", a.generation, a.instance);
        } else if constexpr (std::is_same_v<A, action::StopAccepting>) {
          out << "stop accepting";
        } else if constexpr (std::is_same_v<A, action::CloseHeld>) {
          out << "close held";
        } else if constexpr (std::is_same_v<A, action::RolloverEnded>) {
          out << "ended " << to_string(a.rollover.outcome);
        } else if constexpr (std::is_same_v<A, action::WantRollover>) {
          out << "want rollover";
        } else if constexpr (std::is_same_v<A, action::LaunchFailed>) {
          out << "launch failed";
        } else if constexpr (std::is_same_v<A, action::Stopped>) {
          out << "stopped";
        }
      },
      action);
  return out.str();
}

class Machine : public testing::Test {
 protected:
  using Words = std::vector<std::string>;

  Words send(const Event& event) {
    Words words;
    for (const Action& action : step(state, event, now)) {
      if (const auto* ended = std::get_if<action::RolloverEnded>(&action)) last_ended = ended->rollover;
      if (const auto* drain = std::get_if<action::Drain>(&action)) drains[drain->generation] = drain->drain;
      if (std::string w = word(action); !w.empty()) words.push_back(std::move(w));
    }
    EXPECT_EQ(broken_invariant(state), "");
    return words;
  }
  Words ready(GenerationNumber g, InstanceIndex i = 0) { return send(event::InstanceReady{g, i}); }
  Words exited(GenerationNumber g, InstanceIndex i = 0) {
    return send(event::InstanceExited{g, i, "exit status 1"});
  }
  Words drained(GenerationNumber g) { return send(event::Drained{drains.at(g)}); }
  Words roll(Mode mode) { return send(event::Rollover{mode, policy, launch}); }
  Words later(Duration d) {
    now += d;
    return send(event::Tick{"last check: refused"});
  }
  void serve() {
    send(event::Start{policy, launch});
    for (InstanceIndex i = 0; i < launch.instances; ++i) ready(1, i);
    ASSERT_EQ(state.phase, Phase::kServing);
  }

  State state;
  TimePoint now{100s};
  Policy policy{30s, 2};
  Launch launch{1, 10s, 5s, {100ms, 1s}, config::StopWhen::kAfterDrain};
  std::optional<RolloverInProgress> last_ended;
  std::map<GenerationNumber, std::uint64_t> drains;
};

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

TEST_F(Machine, OldGenerationsBeyondTheLimitAreCutOldestFirst) {
  serve();
  roll(Mode::kPhased);
  ready(2);
  roll(Mode::kPhased);
  ready(3);
  EXPECT_THAT(roll(Mode::kPhased), ElementsAre("cut 1", "stop 1.0", "create 4", "start 4.0"));
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
  EXPECT_THAT(ready(2), ElementsAre("route 2.0", "ended done", "route", "drain 2", "close held"));
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
