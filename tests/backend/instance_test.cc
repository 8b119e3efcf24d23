#include <sys/stat.h>

#include "tests/backend/fixture.h"

namespace relayd::backend {
namespace {

using testing::HasSubstr;

class InstanceTest : public BackendTest {};

TEST_F(InstanceTest, ExecFailureNamesEverything) {
  make(service({"no-such-program"}), recording());
  const auto started = instance_->start();
  ASSERT_FALSE(started);
  EXPECT_EQ(
      started.error().message,
      "cannot start web generation 3 instance 0: exec no-such-program: No such file or directory (ENOENT)");
  EXPECT_EQ(started.error().code, ENOENT);
  EXPECT_FALSE(instance_->alive());
}

TEST_F(InstanceTest, BadTemplateIsAnError) {
  make(service({"sh", "{socket}"}), recording());
  EXPECT_THAT(instance_->start().error().message, HasSubstr("{socket}"));
}

TEST_F(InstanceTest, ExitStatusAndLastLinesOfStderr) {
  start(shell("echo starting >&2; echo 'boom: no database' >&2; exit 3", config::Check::kNotify));
  ASSERT_TRUE(run_until_exit());
  EXPECT_EQ(seen_.exits[0].describe(), "exit status 3");
  EXPECT_EQ(seen_.exits[0].pid, instance_->pid());
  EXPECT_EQ(instance_->last_stderr(), "starting\nboom: no database");
  EXPECT_EQ(seen_.ready, 0);
  EXPECT_FALSE(instance_->alive());
}

TEST_F(InstanceTest, KilledBySignal) {
  start(shell("kill -KILL $$"));
  ASSERT_TRUE(run_until_exit());
  EXPECT_EQ(seen_.exits[0].describe(), "killed by SIGKILL");
}

TEST_F(InstanceTest, EnvironmentCommandAndDirectory) {
  ::setenv("LISTEN_FDS", "3", 1);
  ::setenv("RELAY_SERVICE", "outer", 1);
  ::setenv("INHERITED", "yes", 1);
  auto definition = shell("env > env.new; echo $0 >> env.new; mv env.new env", config::Check::kNotify);
  definition.backend.command.push_back("{address}/{generation}/{instance}");
  definition.backend.env = {{"BIND", "{host}:{port}"}};
  start(definition);
  ::unsetenv("LISTEN_FDS");
  ::unsetenv("RELAY_SERVICE");
  ::unsetenv("INHERITED");
  ASSERT_TRUE(run_until_exit());
  const std::string text = "\n" + read_text(file("env"));
  const std::string port = std::to_string(instance_->address().port());
  for (const std::string& line :
       {std::string("RELAY_SERVICE=web"), std::string("RELAY_GENERATION=3"), std::string("RELAY_INSTANCE=0"),
        std::string("HOST=127.0.0.1"), "PORT=" + port, "BIND=127.0.0.1:" + port, std::string("INHERITED=yes"),
        "127.0.0.1:" + port + "/3/0"}) {
    EXPECT_THAT(text, HasSubstr("\n" + line + "\n"));
  }
  EXPECT_THAT(text, HasSubstr("\nNOTIFY_SOCKET=@"));
  EXPECT_THAT(text, testing::Not(HasSubstr("LISTEN_FDS")));
}

TEST_F(InstanceTest, SocketAddressIsFreshAndRemovedAfterTheExit) {
  auto definition =
      shell("touch \"$RELAY_SOCKET\"; echo \"$1\" > address; exec sleep 1000", config::Check::kNone);
  definition.backend.command.insert(definition.backend.command.end(), {"app", "{socket} {address}"});
  definition.backend.address = config::AddressKind::kSocket;
  start(definition);
  const std::string path = instance_->address().path();
  EXPECT_THAT(path, testing::StartsWith(folder_.path() + "/web-3-0-"));
  ASSERT_TRUE(run_until([&] { return exists(file("address")) && !read_text(file("address")).empty(); }));
  EXPECT_EQ(read_text(file("address")), path + " unix:" + path + "\n");
  EXPECT_TRUE(exists(path));
  instance_->kill();
  ASSERT_TRUE(run_until_exit());
  EXPECT_FALSE(exists(path));
  EXPECT_FALSE(exists(std::filesystem::path(path).parent_path()));
}

TEST_F(InstanceTest, RunsAsAnotherUserWhoCanMakeHisSocket) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  auto definition = shell("touch \"$RELAY_SOCKET\" && echo made >&2; id -u >&2; echo $HOME >&2; exit 0",
                          config::Check::kNotify);
  definition.backend.address = config::AddressKind::kSocket;
  definition.backend.user = "nobody";
  start(definition);
  ASSERT_TRUE(run_until_exit());
  EXPECT_EQ(instance_->last_stderr(), "made\n65534\n/nonexistent");
}

// A worker that dies on a signal meant for its master loses the requests it has.
TEST_F(InstanceTest, StopReachesTheProcessAloneNotItsGroup) {
  start(python(R"(
import os, signal, socket, sys
hold, release = os.pipe()
told, tell = os.pipe()
if os.fork() == 0:
    terms = []
    signal.signal(signal.SIGTERM, lambda *a: terms.append(1))
    os.close(release)
    os.write(tell, b'x')
    os.read(hold, 1)
    open('worker', 'w').write(str(len(terms)))
    os._exit(0)
os.read(told, 1)
def on_term(*a):
    os.close(release)
    os.wait()
    sys.exit(7)
signal.signal(signal.SIGTERM, on_term)
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.sendto(b'READY=1', '\0' + os.environ['NOTIFY_SOCKET'][1:])
while True: signal.pause()
)",
               config::Check::kNotify));
  ASSERT_TRUE(run_until([this] { return seen_.ready == 1; }));
  instance_->stop();
  ASSERT_TRUE(run_until_exit());
  EXPECT_EQ(seen_.exits[0].describe(), "exit status 7");
  EXPECT_EQ(read_text(file("worker")), "0");
}

TEST_F(InstanceTest, StopSignalIsTheConfiguredOne) {
  auto definition = shell("trap 'exit 9' QUIT; echo > trapped; while :; do sleep 0.01; done");
  definition.backend.stop_signal = SIGQUIT;
  start(definition);
  ASSERT_TRUE(run_until([this] { return exists(file("trapped")); }));
  instance_->stop();
  ASSERT_TRUE(run_until_exit());
  EXPECT_EQ(seen_.exits[0].describe(), "exit status 9");
}

TEST_F(InstanceTest, KillReachesGrandchildrenThatIgnoreTerm) {
  start(shell("trap '' TERM; sleep 1000 & echo $! > pid.new; mv pid.new pid; wait; wait"));
  ASSERT_TRUE(run_until([this] { return exists(file("pid")); }));
  const pid_t grandchild = std::stoi(read_text(file("pid")));
  ASSERT_TRUE(is_running(grandchild));
  instance_->stop();
  loop_.run_nowait();
  EXPECT_TRUE(instance_->alive());
  instance_->kill();
  ASSERT_TRUE(run_until_exit());
  EXPECT_EQ(seen_.exits[0].describe(), "killed by SIGKILL");
  EXPECT_TRUE(run_until([&] { return !is_running(grandchild); }));
}

TEST_F(InstanceTest, WhatTheProcessLeavesBehindInItsGroupIsKilled) {
  start(shell("sleep 1000 & echo $! > pid; exit 0"));
  ASSERT_TRUE(run_until_exit());
  const pid_t grandchild = std::stoi(read_text(file("pid")));
  EXPECT_TRUE(run_until([&] { return !is_running(grandchild); }));
}

// A grandchild in another group keeps the writing end of standard error: `exited` must not wait for it.
TEST_F(InstanceTest, SurvivorThatHoldsStderrDoesNotDelayTheReport) {
  start(shell("setsid sleep 1000 & echo $! > pid; echo last words >&2; exit 4"));
  ASSERT_TRUE(run_until_exit());
  EXPECT_EQ(seen_.exits[0].status, 4);
  EXPECT_EQ(instance_->last_stderr(), "last words");
  ::kill(std::stoi(read_text(file("pid"))), SIGKILL);
}

TEST_F(InstanceTest, PortsOfLiveInstancesDiffer) {
  start(shell("sleep 1000"));
  auto other = std::make_shared<Definition>(Definition{shell("sleep 1000"), {}});
  Instance second(*context_, other, 3, 1, {});
  ASSERT_TRUE(second.start());
  EXPECT_NE(instance_->address().port(), second.address().port());
}

}  // namespace
}  // namespace relayd::backend
