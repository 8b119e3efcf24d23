#include "proxy/backend/reaper.h"

#include <sys/prctl.h>
#include <sys/wait.h>

#include "tests/backend/fixture.h"

namespace relayd::backend {
namespace {

class ReaperTest : public BackendTest {
 protected:
  void SetUp() override {
    BackendTest::SetUp();
    ASSERT_EQ(::prctl(PR_SET_CHILD_SUBREAPER, 1), 0);
    ASSERT_TRUE(OrphanReaper::needed());
  }
  void TearDown() override {
    reaper_.reset();
    BackendTest::TearDown();
    ::prctl(PR_SET_CHILD_SUBREAPER, 0);
  }

  // A process whose parent has ended, and which ends itself when the returned pipe's writing end is closed.
  pid_t make_orphan(Descriptor& release) {
    auto hold = make_pipe();
    auto told = make_pipe();
    if (!hold || !told) return -1;
    const pid_t parent = ::fork();
    if (parent == 0) {
      const pid_t orphan = ::fork();
      if (orphan == 0) {
        hold->write.reset();
        char byte = 0;
        [[maybe_unused]] const ssize_t got = ::read(hold->read.get(), &byte, 1);
        ::_exit(0);
      }
      [[maybe_unused]] const ssize_t sent = ::write(told->write.get(), &orphan, sizeof orphan);
      ::_exit(0);
    }
    pid_t orphan = -1;
    EXPECT_EQ(::read(told->read.get(), &orphan, sizeof orphan), static_cast<ssize_t>(sizeof orphan));
    EXPECT_EQ(::waitpid(parent, nullptr, 0), parent);
    release = std::move(hold->write);
    return orphan;
  }
  // Gone altogether: not even a zombie.
  static bool is_reaped(pid_t pid) { return ::kill(pid, 0) != 0 && errno == ESRCH; }

  std::unique_ptr<OrphanReaper> reaper_;
};

TEST_F(ReaperTest, ReapsOrphans) {
  reaper_ = std::make_unique<OrphanReaper>(loop_);
  Descriptor release;
  const pid_t orphan = make_orphan(release);
  loop_.run_nowait();
  ASSERT_FALSE(is_reaped(orphan));
  release.reset();
  EXPECT_TRUE(run_until([&] { return is_reaped(orphan); }));
}

TEST_F(ReaperTest, ReapsWhatEndedBeforeItWatched) {
  Descriptor release;
  const pid_t orphan = make_orphan(release);
  release.reset();
  siginfo_t info{};
  ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(orphan), &info, WEXITED | WNOWAIT), 0);
  reaper_ = std::make_unique<OrphanReaper>(loop_);
  EXPECT_TRUE(run_until([&] { return is_reaped(orphan); }));
}

TEST_F(ReaperTest, ExitStatusesOfInstancesAreNotStolen) {
  reaper_ = std::make_unique<OrphanReaper>(loop_);
  for (int i = 0; i < 20; ++i) {
    seen_ = {};
    start(shell("exit 7"));
    ASSERT_TRUE(run_until_exit());
    ASSERT_EQ(seen_.exits[0].describe(), "exit status 7");
    ASSERT_EQ(seen_.exits.size(), 1U);
  }
}

// waitid shows the dead in the order of their parent's list: an own zombie that nobody has reaped yet comes
// first, and would hide every orphan behind it.
TEST_F(ReaperTest, OwnZombieDoesNotHideTheOrphansBehindIt) {
  start(shell("exit 7"));
  siginfo_t info{};
  ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(instance_->pid()), &info, WEXITED | WNOWAIT), 0);
  Descriptor release;
  const pid_t orphan = make_orphan(release);
  release.reset();
  ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(orphan), &info, WEXITED | WNOWAIT), 0);
  reaper_ = std::make_unique<OrphanReaper>(loop_);
  EXPECT_TRUE(run_until([&] { return is_reaped(orphan) && !seen_.exits.empty(); }));
  EXPECT_EQ(seen_.exits.size(), 1U);
  EXPECT_EQ(seen_.exits[0].describe(), "exit status 7");
}

TEST_F(ReaperTest, InstanceMayBeDestroyedWhileTheReaperReportsItsEnd) {
  InstanceEvents events;
  events.exited = [this](const ExitReport&) { instance_.reset(); };
  start(shell("exit 7"), std::move(events));
  siginfo_t info{};
  ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(instance_->pid()), &info, WEXITED | WNOWAIT), 0);
  reaper_ = std::make_unique<OrphanReaper>(loop_);
  EXPECT_TRUE(run_until([this] { return instance_ == nullptr; }));
}

TEST_F(ReaperTest, DeadKeeperIsReapedAndNoticed) {
  reaper_ = std::make_unique<OrphanReaper>(loop_);
  const pid_t pid = keeper_->pid();
  ::kill(pid, SIGKILL);
  EXPECT_TRUE(run_until([&] { return is_reaped(pid); }));
  EXPECT_TRUE(keeper_->dead());
  EXPECT_TRUE(keeper_->restart({}));
}

}  // namespace
}  // namespace relayd::backend
