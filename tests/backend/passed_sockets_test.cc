// Listening sockets that a process gets: sd_listen_fds(3) to the letter.
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "proxy/backend/spawn.h"
#include "tests/backend/fixture.h"

namespace relayd::backend {
namespace {

using testing::HasSubstr;

class PassedSocketsTest : public BackendTest {
 protected:
  // What the shell script writes to the file "out".
  std::string output_of(const std::string& script, const Streams& streams,
                        std::optional<rlimit> nofile = {}) {
    Program program;
    program.directory = folder_.path();
    program.env = {{"PATH", "/usr/bin:/bin"}, {"LISTEN_FDS", "17"}};
    program.command = {"/bin/sh", "-c", "(" + script + ") > out"};
    program.nofile = nofile;
    const auto spawned = spawn(program, streams, keeper_->channel());
    if (!spawned) return spawned.error().message;
    last_pid_ = spawned->pid;
    int status = 0;
    ::waitpid(spawned->pid, &status, 0);
    EXPECT_EQ(status, 0);
    return read_text(file("out"));
  }
  static Descriptor listener() {
    auto made = listen_on(SocketAddress::loopback(0), 16);
    EXPECT_TRUE(made);
    return std::move(*made);
  }
  static std::string inode(int fd) {
    return std::filesystem::read_symlink("/proc/self/fd/" + std::to_string(fd));
  }

  pid_t last_pid_ = 0;
};

TEST_F(PassedSocketsTest, StandAtThreeAndAboveUnderTheirNamesAndNothingElseDoes) {
  const Descriptor a = listener();
  const Descriptor b = listener();
  const Descriptor not_for_it(::dup(a.get()));  // not even close-on-exec
  const std::string out = output_of(
      "echo $LISTEN_FDS $LISTEN_FDNAMES $LISTEN_PID $$; readlink /proc/$$/fd/3 /proc/$$/fd/4; "
      "cd /proc/$$/fd; echo *",
      {.sockets = {{b.get(), "web"}, {a.get(), "admin"}}});
  std::istringstream lines(out);
  std::string line;
  std::getline(lines, line);
  EXPECT_EQ(line, "2 web:admin " + std::to_string(last_pid_) + " " + std::to_string(last_pid_));
  std::getline(lines, line);
  EXPECT_EQ(line, inode(b.get()));
  std::getline(lines, line);
  EXPECT_EQ(line, inode(a.get()));
  std::getline(lines, line);
  for (const char* fd : {"5", "6", "7", "8", "9"}) EXPECT_EQ(line.find(fd), std::string::npos) << line;
}

// Whatever numbers they have in relayd: each may stand where another one, or the failure pipe, has to go.
TEST_F(PassedSocketsTest, InAnyOrderOfTheirNumbers) {
  std::vector<Descriptor> listeners;
  for (int i = 0; i < 12; ++i) listeners.push_back(listener());
  Streams streams;
  std::string expected;
  for (auto it = listeners.rbegin(); it != listeners.rend(); ++it) {
    streams.sockets.push_back({it->get(), "s"});
    expected += inode(it->get()) + "\n";
  }
  EXPECT_EQ(output_of("for fd in 3 4 5 6 7 8 9 10 11 12 13 14; do readlink /proc/$$/fd/$fd; done", streams),
            expected);
}

TEST_F(PassedSocketsTest, TheSameOneTwice) {
  const Descriptor a = listener();
  EXPECT_EQ(output_of("readlink /proc/$$/fd/3 /proc/$$/fd/4", {.sockets = {{a.get(), "x"}, {a.get(), "y"}}}),
            inode(a.get()) + "\n" + inode(a.get()) + "\n");
}

TEST_F(PassedSocketsTest, AFailureIsToldThoughItsPipeHadToMove) {
  std::vector<Descriptor> listeners;
  Streams streams;
  for (int i = 0; i < 40; ++i) {
    listeners.push_back(listener());
    streams.sockets.push_back({listeners.back().get(), "s"});
  }
  Program program;
  program.env = {{"PATH", "/usr/bin:/bin"}};
  program.command = {"no-such-program"};
  const auto spawned = spawn(program, streams, keeper_->channel());
  ASSERT_FALSE(spawned);
  EXPECT_EQ(spawned.error().message, "exec no-such-program: No such file or directory (ENOENT)");
}

TEST_F(PassedSocketsTest, ALowLimitOfOpenFilesDoesNotHinderThePassing) {
  std::vector<Descriptor> fillers;
  for (int i = 0; i < 64; ++i) fillers.emplace_back(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const Descriptor a = listener();
  EXPECT_EQ(output_of("readlink /proc/$$/fd/3", {.sockets = {{a.get(), "x"}}}, rlimit{16, 16}),
            inode(a.get()) + "\n");
}

// ---- address: activation

TEST_F(PassedSocketsTest, ActivationIsReadyWhenTheAppHasAccepted) {
  config::Service app = python(
      "import os, socket, time\n"
      "listener = socket.socket(fileno=3)\n"
      "while not os.path.exists('accept'): time.sleep(0.01)\n"
      "open('accepting', 'w').close()\n"
      "while True:\n"
      "    link, _ = listener.accept()\n"
      "    link.recv(1)\n",
      config::Check::kAuto);
  app.backend.address = config::AddressKind::kActivation;
  start(app);
  // Connects succeed at once: the kernel makes them.
  const Descriptor client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(::connect(client.get(), instance_->address().get(), instance_->address().length()), 0);
  ASSERT_EQ(::shutdown(client.get(), SHUT_WR), 0);
  for (int i = 0; i < 20; ++i) loop_.run_once();
  EXPECT_EQ(seen_.ready, 0);
  write_text(file("accept"), "");
  ASSERT_TRUE(run_until([this] { return seen_.ready == 1; }));
  EXPECT_TRUE(exists(file("accepting")));
}

TEST_F(PassedSocketsTest, ActivationSaysWhatItWaitsFor) {
  config::Service app = shell("exec sleep 60", config::Check::kTcp);
  app.backend.address = config::AddressKind::kActivation;
  app.health.timeout = Duration(20);
  start(app);
  ASSERT_TRUE(run_until([this] { return !instance_->last_check_error().empty(); }));
  EXPECT_THAT(instance_->last_check_error(), HasSubstr("to be accepted by the app: no answer within 20ms"));
  EXPECT_EQ(seen_.ready, 0);
}

TEST_F(PassedSocketsTest, TheNextProcessGetsTheSocketOfTheOneBefore) {
  config::Service app = shell("echo $HOST $PORT $RELAY_SOCKET > out");
  app.backend.address = config::AddressKind::kActivation;
  start(app);
  const SocketAddress address = instance_->address();
  const auto socket = instance_->listening();
  ASSERT_TRUE(run_until_exit());
  EXPECT_EQ(read_text(file("out")), "\n") << "an app that found PORT would try to bind it";
  const auto definition = std::make_shared<Definition>(Definition{app, {}});
  instance_ = std::make_unique<Instance>(*context_, definition, 3, 0, recording(), socket);
  ASSERT_TRUE(instance_->start());
  EXPECT_EQ(instance_->address(), address);
}

TEST_F(PassedSocketsTest, HandoffPassesTheSocketsOfTheDefinition) {
  config::Service app = shell("echo $LISTEN_FDS $LISTEN_FDNAMES; readlink /proc/$$/fd/3; sleep 60");
  app.backend.command.back() = "(" + app.backend.command.back() + ") > out";
  app.backend.address = config::AddressKind::kHandoff;
  auto socket = std::make_shared<const Descriptor>(listener());
  const auto address = local_address(socket->get());
  ASSERT_TRUE(address);
  const auto definition = std::make_shared<Definition>(Definition{app, {}, {{"front", *address, socket}}});
  instance_ = std::make_unique<Instance>(*context_, definition, 3, 0, recording());
  ASSERT_TRUE(instance_->start());
  EXPECT_EQ(instance_->address(), *address);
  const std::string expected = "1 front\n" + inode(socket->get()) + "\n";
  EXPECT_TRUE(run_until([&] { return read_text(file("out")) == expected; })) << read_text(file("out"));
}

}  // namespace
}  // namespace relayd::backend
