#include "proxy/backend/spawn.h"

#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "tests/backend/fixture.h"

namespace relayd::backend {
namespace {

class SpawnTest : public testing::Test {
 protected:
  void SetUp() override {
    auto started = Keeper::start();
    ASSERT_TRUE(started);
    keeper_ = std::make_unique<Keeper>(std::move(*started));
    program_.directory = folder_.path();
    program_.env = {{"PATH", "/usr/bin:/bin"}};
  }
  Result<Spawned> run() { return spawn(program_, Streams{}, keeper_->channel()); }
  // The error of a spawn that has to fail, and must leave no process behind.
  std::string error() {
    const auto spawned = run();
    EXPECT_FALSE(spawned);
    EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), 0) << "only the keeper may be left";
    return spawned ? "" : spawned.error().message;
  }
  // What the script leaves in the file "out".
  std::string output_of(const std::string& script) {
    program_.command = {"/bin/sh", "-c", "(" + script + ") > out"};
    const auto spawned = run();
    if (!spawned) return spawned.error().message;
    int status = 0;
    ::waitpid(spawned->pid, &status, 0);
    EXPECT_EQ(status, 0);
    return read_text(folder_.file("out"));
  }

  TemporaryFolder folder_;
  std::unique_ptr<Keeper> keeper_;
  Program program_;
};

TEST_F(SpawnTest, ErrorsNameTheStage) {
  program_.command = {"no-such-program"};
  EXPECT_EQ(error(), "exec no-such-program: No such file or directory (ENOENT)");
  program_.command = {"./no-such-program"};
  EXPECT_EQ(error(), "exec ./no-such-program: No such file or directory (ENOENT)");
  program_.command = {folder_.path()};
  EXPECT_EQ(error(), "exec " + folder_.path() + ": Permission denied (EACCES)");
  std::ofstream(folder_.file("script")) << "echo no first line\n";
  ASSERT_EQ(::chmod(folder_.file("script").c_str(), 0755), 0);
  program_.command = {"./script"};
  EXPECT_EQ(error(),
            "exec ./script: Exec format error (ENOEXEC); a script needs a first line such as #!/bin/sh");
  program_.command = {"true"};
  program_.directory = "/nonexistent/folder";
  EXPECT_EQ(error(), "chdir /nonexistent/folder: No such file or directory (ENOENT)");
  program_.directory.clear();
  ::kill(keeper_->pid(), SIGKILL);
  siginfo_t info{};
  ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(keeper_->pid()), &info, WEXITED | WNOWAIT), 0);
  const auto spawned = run();
  ASSERT_FALSE(spawned);
  EXPECT_THAT(spawned.error().message, testing::StartsWith("register with relayd-keeper: "));
}

// What a spawn over this channel tells the keeper.
class TellsTheKeeperTest : public SpawnTest {
 protected:
  void SetUp() override {
    SpawnTest::SetUp();
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
    relayd_end_.reset(ends[0]);
    keeper_end_.reset(ends[1]);
  }
  std::vector<Keeper::Message> told() const {
    std::vector<Keeper::Message> messages;
    Keeper::Message message{};
    while (::recv(keeper_end_.get(), &message, sizeof message, MSG_DONTWAIT) == sizeof message) {
      messages.push_back(message);
    }
    return messages;
  }
  std::string failure() const {
    const auto spawned = spawn(program_, Streams{}, relayd_end_.get());
    return spawned ? "" : spawned.error().message;
  }

  Descriptor relayd_end_;
  Descriptor keeper_end_;
};

// Else the keeper would kill, when relayd ends, whoever has got that number by then; and its table would fill
// up.
TEST_F(TellsTheKeeperTest, ToForgetAGroupWhoseExecFailed) {
  program_.command = {"no-such-program"};
  EXPECT_THAT(failure(), testing::StartsWith("exec no-such-program"));
  const auto messages = told();
  ASSERT_EQ(messages.size(), 2U);
  EXPECT_TRUE(messages[0].add);
  EXPECT_FALSE(messages[1].add);
  EXPECT_EQ(messages[1].group, messages[0].group);
}

TEST_F(TellsTheKeeperTest, ToForgetAGroupThatCannotBeWatched) {
  program_.command = {"sleep", "1000"};
  std::vector<Descriptor> filling;
  for (int i = 0; i < 64; ++i) filling.emplace_back(::dup(relayd_end_.get()));
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &before), 0);
  // Room for /dev/null and the pipe, none for the pidfd.
  const rlimit tight{static_cast<rlim_t>(filling.back().get()) + 4, before.rlim_max};
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &tight), 0);
  const std::string error = failure();
  ASSERT_EQ(::setrlimit(RLIMIT_NOFILE, &before), 0);
  EXPECT_THAT(error, testing::StartsWith("watch the new process: "));
  const auto messages = told();  // it may have been killed before it registered
  ASSERT_FALSE(messages.empty());
  EXPECT_FALSE(messages.back().add);
  EXPECT_GT(messages.back().group, 1);
}

TEST_F(SpawnTest, SearchesThePathOfTheChild) {
  for (const std::string name : {"first", "second"}) std::filesystem::create_directory(folder_.file(name));
  const auto script = [&](const std::string& path, mode_t mode) {
    std::ofstream(folder_.file(path)) << "#!/bin/sh\necho " << path << " > " << folder_.file("out") << "\n";
    ASSERT_EQ(::chmod(folder_.file(path).c_str(), mode), 0);
  };
  script("first/tool", 0644);  // may not be run: the search goes on
  script("second/tool", 0755);
  program_.env["PATH"] =
      "/nonexistent:" + folder_.file("first") + ":second";  // the last one: from the directory
  program_.command = {"tool"};
  const auto spawned = run();
  ASSERT_TRUE(spawned) << spawned.error().message;
  ::waitpid(spawned->pid, nullptr, 0);
  EXPECT_EQ(read_text(folder_.file("out")), "second/tool\n");
  program_.env["PATH"] = folder_.file("first") + ":/nonexistent";
  EXPECT_EQ(error(), "exec tool: Permission denied (EACCES)");
}

TEST_F(SpawnTest, EnvironmentIsWhatWasGivenAndNothingElse) {
  program_.env = {{"A", "1"}, {"B", "x y\nz"}};
  program_.command = {"/usr/bin/env", "-0"};
  auto pipe = make_pipe();
  ASSERT_TRUE(pipe);
  const auto spawned = spawn(program_, Streams{pipe->write.get(), -1}, keeper_->channel());
  ASSERT_TRUE(spawned);
  pipe->write.reset();
  char buffer[256] = {};
  const ssize_t got = ::read(pipe->read.get(), buffer, sizeof buffer);
  EXPECT_EQ(std::string(buffer, static_cast<std::size_t>(got)), std::string("A=1\0B=x y\nz\0", 12));
  ::waitpid(spawned->pid, nullptr, 0);
}

// Even one that relayd inherited without close-on-exec, or forgot to mark.
TEST_F(SpawnTest, NoDescriptorLeaksAndInputIsNull) {
  const Descriptor leaky(::open("/dev/zero", O_RDONLY));
  EXPECT_EQ(output_of("for f in /proc/self/fd/*; do readlink $f; done | grep -c zero; true"), "0\n");
  EXPECT_EQ(output_of("readlink /proc/self/fd/0"), "/dev/null\n");
}

TEST_F(SpawnTest, SignalsAreAsAProgramExpectsThem) {
  ::signal(SIGPIPE, SIG_IGN);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGUSR1);
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
  const std::string text = output_of("grep -E '^Sig(Blk|Ign):' /proc/self/status");
  ::pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
  ::signal(SIGPIPE, SIG_DFL);
  EXPECT_EQ(text, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
}

TEST_F(SpawnTest, OwnProcessGroup) {
  program_.command = {"sh", "-c", "sleep 1000"};
  const auto spawned = run();
  ASSERT_TRUE(spawned);
  EXPECT_EQ(::getpgid(spawned->pid), spawned->pid);
  ::kill(-spawned->pid, SIGKILL);
  ::waitpid(spawned->pid, nullptr, 0);
}

TEST_F(SpawnTest, OpenFiles) {
  program_.nofile = rlimit{123, 456};
  EXPECT_EQ(output_of("ulimit -Sn; ulimit -Hn"), "123\n456\n");
  if (::geteuid() == 0) return;  // may raise the hard limit
  rlimit now{};
  ::getrlimit(RLIMIT_NOFILE, &now);
  program_.nofile = rlimit{now.rlim_max + 1, now.rlim_max + 1};
  EXPECT_THAT(error(), testing::HasSubstr("backend.limits.nofile"));
}

TEST_F(SpawnTest, UserGroupAndHisOtherGroups) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  const auto identity = find_identity("nobody", "");
  ASSERT_TRUE(identity && *identity);
  program_.identity = **identity;
  program_.directory = "/";
  auto pipe = make_pipe();
  ASSERT_TRUE(pipe);
  program_.command = {"sh", "-c", "id -u; id -g; id -G; grep -c . /proc/self/status >/dev/null && echo read"};
  const auto spawned = spawn(program_, Streams{pipe->write.get(), -1}, keeper_->channel());
  ASSERT_TRUE(spawned) << spawned.error().message;
  pipe->write.reset();
  ::waitpid(spawned->pid, nullptr, 0);
  char buffer[256] = {};
  const ssize_t got = ::read(pipe->read.get(), buffer, sizeof buffer);
  EXPECT_EQ(std::string(buffer, static_cast<std::size_t>(got)), "65534\n65534\n65534\nread\n");
}

TEST(Identities, NamesNumbersAndErrors) {
  EXPECT_FALSE(find_identity("", "")->has_value());
  EXPECT_EQ((*find_identity("root", ""))->uid, 0U);
  EXPECT_EQ((*find_identity("12345", ""))->uid, 12345U);
  EXPECT_EQ((*find_identity("12345", "77"))->gid, 77U);
  EXPECT_EQ((*find_identity("", "77"))->uid, ::geteuid());
  EXPECT_THAT(find_identity("no-such-user", "").error().message, testing::HasSubstr("'no-such-user'"));
  EXPECT_THAT(find_identity("root", "no-such-group").error().message, testing::HasSubstr("'no-such-group'"));
}

}  // namespace
}  // namespace relayd::backend
