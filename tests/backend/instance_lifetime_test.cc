#include "tests/backend/fixture.h"

// Destroying an instance at any moment leaves no process, no descriptor and no open handle.
namespace relayd::backend {
namespace {

class InstanceLifetimeTest : public BackendTest {
 protected:
  // The group's leader and a child of it; both have to be gone in the end.
  config::Service family() const {
    return shell("sleep 1000 & echo $! > pid.new; mv pid.new pid; wait", config::Check::kNone);
  }
  bool run_until_family() {
    return run_until([this] { return exists(file("pid")); });
  }
  void expect_family_gone(pid_t leader) {
    const pid_t child = std::stoi(read_text(file("pid")));
    EXPECT_TRUE(run_until([&] { return !is_running(leader) && !is_running(child); }));
  }
};

TEST_F(InstanceLifetimeTest, NeverStarted) {
  make(family(), recording());
  EXPECT_EQ(instance_->pid(), 0);
  EXPECT_FALSE(instance_->alive());
  instance_->stop();
  instance_->kill();
  instance_.reset();
}

TEST_F(InstanceLifetimeTest, BeforeTheLoopRuns) {
  start(family());
  const pid_t leader = instance_->pid();
  instance_.reset();
  EXPECT_TRUE(run_until([&] { return !is_running(leader); }));
  EXPECT_EQ(seen_.ready, 0);
  EXPECT_TRUE(seen_.exits.empty());
}

TEST_F(InstanceLifetimeTest, WhileItRuns) {
  start(family());
  const pid_t leader = instance_->pid();
  ASSERT_TRUE(run_until_family());
  instance_.reset();
  expect_family_gone(leader);
  EXPECT_TRUE(seen_.exits.empty());
}

TEST_F(InstanceLifetimeTest, AfterStopAndAfterKill) {
  for (const bool kill : {false, true}) {
    std::filesystem::remove(file("pid"));
    start(family());
    const pid_t leader = instance_->pid();
    ASSERT_TRUE(run_until_family());
    kill ? instance_->kill() : instance_->stop();
    instance_.reset();
    expect_family_gone(leader);
  }
}

TEST_F(InstanceLifetimeTest, InReady) {
  for (const auto check : {config::Check::kNone, config::Check::kCommand}) {
    auto definition = family();
    definition.health.check = check;
    definition.health.command = {"true"};
    start(definition, {.ready = [this] { instance_.reset(); }, .unhealthy = {}, .healthy = {}, .exited = {}});
    EXPECT_TRUE(run_until([this] { return instance_ == nullptr; }));
  }
}

TEST_F(InstanceLifetimeTest, InReadyByNotify) {
  start(python(R"(
import os, socket, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.sendto(b'READY=1', '\0' + os.environ['NOTIFY_SOCKET'][1:])
time.sleep(1000)
)",
               config::Check::kNotify),
        {.ready = [this] { instance_.reset(); }, .unhealthy = {}, .healthy = {}, .exited = {}});
  EXPECT_TRUE(run_until([this] { return instance_ == nullptr; }));
}

// The app listens, then stops listening, then listens again, as the file "up" comes and goes.
TEST_F(InstanceLifetimeTest, InReadyUnhealthyAndHealthyOfATcpCheck) {
  for (const std::string where : {"ready", "unhealthy", "healthy"}) {
    write_text(file("up"), "");
    const auto here = [this, where](const std::string& event) {
      if (event == where) return instance_.reset();
      event == "ready" ? std::filesystem::remove(file("up")), void() : write_text(file("up"), "");
    };
    start(python(R"(
import os, socket, time
s = None
while True:
    up = os.path.exists('up')
    if up and not s:
        s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        s.bind((os.environ['HOST'], int(os.environ['PORT']))); s.listen(1000)
    if s and not up: s.close(); s = None
    time.sleep(0.005)
)",
                 config::Check::kTcp),
          {.ready = [=] { here("ready"); },
           .unhealthy = [=](const std::string&) { here("unhealthy"); },
           .healthy = [=] { here("healthy"); },
           .exited = {}});
    EXPECT_TRUE(run_until([this] { return instance_ == nullptr; })) << where;
  }
}

TEST_F(InstanceLifetimeTest, InExited) {
  int exits = 0;
  InstanceEvents events;
  events.exited = [&](const ExitReport&) {
    ++exits;
    instance_.reset();
  };
  start(shell("exit 0"), std::move(events));
  EXPECT_TRUE(run_until([this] { return instance_ == nullptr; }));
  EXPECT_EQ(exits, 1);
}

TEST_F(InstanceLifetimeTest, AfterExited) {
  start(shell("exit 0"));
  ASSERT_TRUE(run_until_exit());
  instance_->stop();
  instance_->kill();
  EXPECT_FALSE(instance_->alive());
}

TEST_F(InstanceLifetimeTest, StartingTheNextOneInExited) {
  std::unique_ptr<Instance> next;
  InstanceEvents events;
  events.exited = [&](const ExitReport&) {
    auto definition = std::make_shared<Definition>(Definition{shell("exit 5"), {}});
    next = std::make_unique<Instance>(*context_, definition, 3, 0, recording());
    instance_.reset();
    EXPECT_TRUE(next->start());
  };
  start(shell("exit 0"), std::move(events));
  ASSERT_TRUE(run_until_exit());
  EXPECT_EQ(seen_.exits[0].status, 5);
}

TEST_F(InstanceLifetimeTest, NoDescriptorIsLeakedOverFiftyLives) {
  const auto live = [this](int round) {
    auto definition = shell("exec sleep 1000");
    if (round % 2 == 0) definition.backend.address = config::AddressKind::kSocket;
    if (round % 3 == 0) {
      definition.health.check = config::Check::kCommand;
      definition.health.command = {"true"};
    }
    seen_ = {};
    start(definition);
    ASSERT_TRUE(run_until([this] { return seen_.ready == 1; }));
    if (round % 5 == 0) return instance_.reset();
    instance_->stop();
    ASSERT_TRUE(run_until_exit());
    instance_.reset();
  };
  live(1);
  loop_.run_nowait();
  const std::size_t before = open_descriptors();
  for (int i = 0; i < 50; ++i) live(i);
  make(service({"no-such-program"}), {});
  EXPECT_FALSE(instance_->start());
  instance_.reset();
  loop_.run_nowait();
  EXPECT_EQ(open_descriptors(), before);
}

}  // namespace
}  // namespace relayd::backend
