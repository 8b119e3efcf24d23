#include "proxy/backend/keeper.h"

#include <sys/wait.h>

#include "proxy/backend/keeper_watch.h"
#include "proxy/backend/own_children.h"
#include "proxy/backend/spawn.h"
#include "tests/backend/fixture.h"

namespace relayd::backend {
namespace {

class KeeperTest : public testing::Test {
 protected:
  TemporaryFolder folder_;
  // A shell with a child in its group, whose pid appears in the file "pid".
  Program family() const {
    Program program;
    program.command = {"/bin/sh", "-c", "sleep 1000 & echo $! > pid.new; mv pid.new pid; wait"};
    program.env = {{"PATH", "/usr/bin:/bin"}};
    program.directory = folder_.path();
    return program;
  }
  pid_t grandchild() const { return std::stoi(read_text(folder_.file("pid"))); }
  bool wait_for(const std::function<bool()>& condition) {
    Loop loop;
    return run_until(loop, condition);
  }
  bool wait_for_family() {
    return wait_for([this] { return exists(folder_.file("pid")); });
  }
};

// kill -9 of relayd: no destructor and no signal handler runs, and PR_SET_PDEATHSIG ends only the shell
// itself.
TEST_F(KeeperTest, WholeGroupDiesWithItsOwnerEvenByKill9) {
  const pid_t owner = ::fork();
  if (owner == 0) {
    auto keeper = Keeper::start();
    const auto spawned = spawn(family(), Streams{}, keeper->channel());
    if (!spawned) ::_exit(1);
    for (;;) ::pause();
  }
  ASSERT_TRUE(wait_for_family());
  const Descriptor watch = open_pidfd(grandchild());
  ASSERT_TRUE(watch);
  ASSERT_EQ(::kill(owner, SIGKILL), 0);
  pollfd entry{watch.get(), POLLIN, 0};
  EXPECT_EQ(::poll(&entry, 1, 20000), 1);
  ASSERT_EQ(::waitpid(owner, nullptr, 0), owner);
}

TEST_F(KeeperTest, EndsAndKillsWhatIsRegisteredWhenDestroyed) {
  pid_t shell = -1;
  pid_t keeper_pid = -1;
  {
    auto keeper = Keeper::start();
    ASSERT_TRUE(keeper);
    keeper_pid = keeper->pid();
    EXPECT_TRUE(wait_for(
        [&] { return read_text("/proc/" + std::to_string(keeper_pid) + "/comm") == "relayd-keeper\n"; }));
    const auto spawned = spawn(family(), Streams{}, keeper->channel());
    ASSERT_TRUE(spawned);
    shell = spawned->pid;
    ASSERT_TRUE(wait_for_family());
  }
  int status = 0;
  ASSERT_EQ(::waitpid(shell, &status, 0), shell);
  EXPECT_TRUE(WIFSIGNALED(status));
  EXPECT_TRUE(wait_for([this] { return !is_running(grandchild()); }));
  EXPECT_FALSE(own_children::contains(keeper_pid));
  EXPECT_EQ(::waitpid(keeper_pid, nullptr, WNOHANG), -1) << "reaped";
}

TEST_F(KeeperTest, ForgottenGroupsAreSpared) {
  pid_t shell = -1;
  {
    auto keeper = Keeper::start();
    ASSERT_TRUE(keeper);
    const auto spawned = spawn(family(), Streams{}, keeper->channel());
    ASSERT_TRUE(spawned);
    shell = spawned->pid;
    ASSERT_TRUE(Keeper::register_group(keeper->channel(), shell));  // twice: must be forgotten altogether
    keeper->forget_group(shell);
    ASSERT_TRUE(wait_for_family());
  }
  EXPECT_EQ(::waitpid(shell, nullptr, WNOHANG), 0) << "still runs";
  ::kill(-shell, SIGKILL);
  ::waitpid(shell, nullptr, 0);
}

TEST_F(KeeperTest, SurvivesTheSignalsThatAreMeantForRelayd) {
  auto keeper = Keeper::start();
  ASSERT_TRUE(keeper);
  ASSERT_TRUE(wait_for([&] { return ::getsid(keeper->pid()) == keeper->pid(); }));
  // Its name comes after its session, and the signals after that.
  ASSERT_TRUE(wait_for([&] {
    return read_text("/proc/" + std::to_string(keeper->pid()) + "/status").find("SigIgn:\tff") !=
               std::string::npos ||
           read_text("/proc/" + std::to_string(keeper->pid()) + "/status").find("SigIgn:\t7f") !=
               std::string::npos;
  }));
  for (const int number : {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGPIPE, SIGWINCH, SIGTTIN}) {
    ASSERT_EQ(::kill(keeper->pid(), number), 0);
  }
  const auto spawned = spawn(family(), Streams{}, keeper->channel());
  ASSERT_TRUE(spawned) << spawned.error().message;
  EXPECT_FALSE(keeper->dead());
  keeper = Keeper::start();  // the first one ends, and takes the family with it
  EXPECT_EQ(::waitpid(spawned->pid, nullptr, 0), spawned->pid);
}

TEST_F(KeeperTest, HoldsNoDescriptorOfItsOwner) {
  auto pipe = make_pipe();
  ASSERT_TRUE(pipe);
  auto keeper = Keeper::start();
  ASSERT_TRUE(keeper);
  pipe->write.reset();
  pollfd entry{pipe->read.get(), POLLIN, 0};
  EXPECT_EQ(::poll(&entry, 1, 20000), 1);  // hung up: no copy of the writing end is left
}

TEST_F(KeeperTest, DeadKeeperIsNoticedAndReplacedWithAllItsGroups) {
  auto keeper = Keeper::start();
  ASSERT_TRUE(keeper);
  const auto spawned = spawn(family(), Streams{}, keeper->channel());
  ASSERT_TRUE(spawned);
  ASSERT_TRUE(wait_for_family());
  EXPECT_FALSE(keeper->dead());
  const pid_t first = keeper->pid();
  ::kill(first, SIGKILL);
  ASSERT_TRUE(wait_for([&] { return keeper->dead(); }));
  const std::vector<pid_t> groups{spawned->pid};
  ASSERT_TRUE(keeper->restart(groups));
  EXPECT_NE(keeper->pid(), first);
  EXPECT_FALSE(keeper->dead());
  EXPECT_EQ(::waitpid(first, nullptr, WNOHANG), -1) << "reaped";
  EXPECT_TRUE(is_running(spawned->pid));
  *keeper = *Keeper::start();
  int status = 0;
  ASSERT_EQ(::waitpid(spawned->pid, &status, 0), spawned->pid);
  EXPECT_TRUE(WIFSIGNALED(status));
}

class KeeperRoomTest : public BackendTest {};

// The keeper's table has an end, and what does not fit would outlive a kill -9 of relayd without a word.
TEST_F(KeeperRoomTest, MoreProcessesThanItGuardsAreRefused) {
  constexpr pid_t kNobody = 100'000'000;  // above every kernel's pid_max
  const auto crowd = static_cast<pid_t>(Keeper::kMaxGroups);
  for (pid_t i = 0; i < crowd; ++i) own_children::add(kNobody + i, [] {});
  make(shell("sleep 1000"), recording());
  const auto refused = instance_->start();
  for (pid_t i = 0; i < crowd; ++i) own_children::remove(kNobody + i);
  ASSERT_FALSE(refused);
  EXPECT_THAT(refused.error().message, testing::HasSubstr("cannot guard more"));
  EXPECT_TRUE(instance_->start());
}

class KeeperWatchTest : public BackendTest {};

TEST_F(KeeperWatchTest, ReplacesADeadKeeperWithTheGroupsOfLiveInstances) {
  start(shell("sleep 1000 & echo $! > pid.new; mv pid.new pid; wait"));
  ASSERT_TRUE(run_until([this] { return exists(file("pid")); }));
  {
    KeeperWatch watch(loop_, *keeper_);
    for (int round = 0; round < 2; ++round) {
      const pid_t before = keeper_->pid();
      ::kill(before, SIGKILL);
      ASSERT_TRUE(run_until([&] { return keeper_->pid() != before; }));
    }
  }
  EXPECT_TRUE(instance_->alive());
  *keeper_ = *Keeper::start();  // the one before ends, and kills what it was told of
  ASSERT_TRUE(run_until_exit());
  EXPECT_EQ(seen_.exits[0].describe(), "killed by SIGKILL");
}

}  // namespace
}  // namespace relayd::backend
