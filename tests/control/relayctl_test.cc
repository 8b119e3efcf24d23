#include <pty.h>

#include "tests/control/relayctl_fixture.h"

namespace relayd::control {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

TEST_F(Relayctl, StatusAsTextAndAsJson) {
  start();
  const Ended text = run({"status"});
  EXPECT_EQ(text.code, 0);
  EXPECT_THAT(text.err, IsEmpty());
  EXPECT_THAT(text.out, HasSubstr("web      serving  2    1/1"));
  EXPECT_THAT(text.out, testing::Not(HasSubstr("\x1b"))) << "no colour without a terminal";
  const Ended json = run({"status", "web", "--json"});
  EXPECT_EQ(json.code, 0);
  expect_one_document(json.out);
  EXPECT_EQ(read_status(lines_of(json.out).at(0))->services.at(0).name, "web");
}

TEST_F(Relayctl, TheOtherVerbsAnswer) {
  start();
  for (const char* verb : {"abort", "pause", "resume"}) {
    const Ended ended = run({verb, "web"});
    EXPECT_EQ(ended.code, 0) << ended.err;
    EXPECT_EQ(ended.out, "done as asked\n");
  }
  EXPECT_EQ(run({"scale", "web", "3"}).code, 0);
  EXPECT_THAT(commands_.calls,
              testing::IsSupersetOf({"abort web", "pause web", "resume web", "scale web 3"}));
  EXPECT_THAT(run({"reload"}).out, HasSubstr("rolled over: web"));
  expect_one_document(run({"reload", "--json"}).out);
  EXPECT_THAT(run({"connections", "--generation", "2"}).out, HasSubstr("127.0.0.1:4000"));
  expect_one_document(run({"connections", "--json"}).out);
}

TEST_F(Relayctl, RolloverDone) {
  start();
  commands_.instant_rollover = done();
  const Ended text = run({"rollover", "web", "--env", "A=1"});
  EXPECT_EQ(text.code, 0) << text.err;
  EXPECT_THAT(text.out, HasSubstr("web: generation 2 serves (phased, 0.9 s)"));
  EXPECT_EQ(commands_.rollovers.at(0).env.at("A"), "1");
  const Ended json = run({"rollover", "web", "--json"});
  EXPECT_EQ(json.code, 0);
  expect_one_document(json.out);
  EXPECT_EQ(read_rollover(lines_of(json.out).at(0))->to, 2u);
}

TEST_F(Relayctl, RolloverFailedIsOneAndSaysWhy) {
  start();
  commands_.instant_rollover = failed();
  const Ended text = run({"rollover"});
  EXPECT_EQ(text.code, 1);
  EXPECT_THAT(text.out, HasSubstr("exit status 3"));
  EXPECT_THAT(text.out, HasSubstr("ImportError: app"));
  EXPECT_THAT(text.out, HasSubstr("generation 2 still serves"));
  const Ended json = run({"rollover", "--json"});
  EXPECT_EQ(json.code, 1);
  expect_one_document(json.out);
}

TEST_F(Relayctl, UsageIsTwo) {
  start();
  EXPECT_EQ(run({"statsu"}).code, 2);
  EXPECT_EQ(run({"rollover", "--canary", "5%"}).code, 2);
  EXPECT_EQ(run({"doctor"}).code, 2);
  const Ended unknown = run({"status", "wbe"});
  EXPECT_EQ(unknown.code, 2);
  EXPECT_THAT(unknown.err, HasSubstr("no service \"wbe\""));
}

TEST_F(Relayctl, NoRelaydIsThree) {
  const Ended missing = run({"status", "--socket", folder_ + "/none.sock"});
  EXPECT_EQ(missing.code, 3);
  EXPECT_THAT(missing.err, HasSubstr("no relayd at " + folder_ + "/none.sock"));
  {
    Descriptor stale(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    const auto address = SocketAddress::unix_path(options_.socket_path);
    ASSERT_EQ(::bind(stale.get(), address->get(), address->length()), 0);
  }
  EXPECT_EQ(run({"status"}).code, 3) << "nobody listens";
  const Ended json = run({"status", "--json"});
  EXPECT_EQ(json.code, 3);
  expect_one_document(json.out);
}

TEST_F(Relayctl, RelaydThatVanishesBeforeTheAnswerIsThree) {
  Descriptor listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const auto address = SocketAddress::unix_path(options_.socket_path);
  ASSERT_EQ(::bind(listener.get(), address->get(), address->length()), 0);
  ASSERT_EQ(::listen(listener.get(), 8), 0);
  const Ended ended = run({"status"}, [&](pid_t, const std::string&) {
    Descriptor(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  });
  EXPECT_EQ(ended.code, 3) << ended.err;
}

TEST_F(Relayctl, BusyIsFour) {
  start();
  commands_.instant_rollover = std::unexpected(Failure{ErrorCode::kBusy, "a rollover of web is in progress"});
  const Ended ended = run({"rollover", "web"});
  EXPECT_EQ(ended.code, 4);
  EXPECT_THAT(ended.err, HasSubstr("a rollover of web is in progress"));
  const Ended json = run({"rollover", "web", "--json"});
  EXPECT_EQ(json.code, 4);
  expect_one_document(json.out);
  EXPECT_THAT(json.out, HasSubstr("\"busy\""));
}

TEST_F(Relayctl, TimeoutIsFiveAndItGoesOn) {
  start();
  const Ended ended = run({"rollover", "web", "--timeout", "100ms"});
  EXPECT_EQ(ended.code, 5);
  EXPECT_THAT(ended.err, HasSubstr("goes on"));
  ASSERT_EQ(commands_.open_rollovers.size(), 1u);
  commands_.open_rollovers[0](done());  // nobody is there to hear it
  expect_one_document(run({"rollover", "web", "--timeout", "50ms", "--json"}).out);
}

TEST_F(Relayctl, NotPermittedIsSix) {
  start();
  commands_.simple = std::unexpected(Failure{ErrorCode::kNotPermitted, "user 7 may not control this relayd"});
  EXPECT_EQ(run({"pause", "web"}).code, 6);
  if (::geteuid() == 0) return;  // root may connect whatever the file says
  ASSERT_EQ(::chmod(options_.socket_path.c_str(), 0), 0);
  EXPECT_EQ(run({"status"}).code, 6);
}

TEST_F(Relayctl, InterruptLeavesTheRolloverAlone) {
  start();
  bool sent = false;
  const Ended ended = run({"rollover", "web"}, [&](pid_t pid, const std::string&) {
    if (!sent && !commands_.open_rollovers.empty()) {
      ::kill(pid, SIGINT);
      sent = true;
    }
  });
  EXPECT_EQ(ended.code, 130);
  EXPECT_THAT(ended.err, HasSubstr("goes on in relayd"));
}

TEST_F(Relayctl, EventsAsALineEach) {
  start();
  commands_.events = {{1, 0, "web", "switched", 2, {}, "new connections go to generation 2", {}},
                      {2, 0, "", "reloaded", 0, {}, "", {}}};
  EXPECT_THAT(run({"events"}).out, HasSubstr("web  switched  new connections go to generation 2\n"));
  const auto lines = lines_of(run({"events", "--json"}).out);
  ASSERT_EQ(lines.size(), 2u);
  EXPECT_EQ(read_event(lines[1])->type, "reloaded");
  std::uint64_t published = 2;
  bool interrupted = false;
  const Ended follow =
      run({"events", "--follow", "--json", "--recent", "1"}, [&](pid_t pid, const std::string& out) {
        server_->publish({++published, 0, "web", "tick", 0, {}, "", {}});
        // Once: a second one would end it at once.
        if (!interrupted && (interrupted = out.find("tick") != std::string::npos)) ::kill(pid, SIGINT);
      });
  EXPECT_EQ(follow.code, 0) << follow.err;
  EXPECT_THAT(follow.out, HasSubstr("\"reloaded\""));
  EXPECT_THAT(follow.out, HasSubstr("\"tick\""));
}

TEST_F(Relayctl, WithoutATerminalALinePerChange) {
  start();
  bool told = false;
  const Ended ended = run({"rollover", "web"}, [&](pid_t, const std::string&) {
    if (told || commands_.open_rollovers.empty()) return;
    told = true;
    server_->publish({1, 0, "web", "generation_ready", 2, {}, "generation 2 is ready", {}});
    commands_.open_rollovers[0](done());
  });
  EXPECT_EQ(ended.code, 0);
  EXPECT_THAT(ended.out, HasSubstr("web  generation_ready  generation 2 is ready\n"));
  EXPECT_THAT(lines_of(ended.out).back(), HasSubstr("generation 2 serves"));
}

TEST_F(Relayctl, OnATerminalALiveBlockAndALastWord) {
  start();
  int master = -1, slave = -1;
  winsize size{24, 80, 0, 0};
  if (::openpty(&master, &slave, nullptr, nullptr, &size) != 0)
    GTEST_SKIP() << "no terminals here (/dev/pts)";
  Descriptor terminal(master), other(slave);
  ASSERT_TRUE(set_nonblocking(master, true));
  const pid_t pid = spawn({"rollover", "web"}, slave, slave,
                          {"RELAYD_SOCKET=" + options_.socket_path, "TERM=xterm", "LC_ALL=C.UTF-8"});
  other.reset();
  std::string screen;
  int status = 0;
  bool answered = false;
  ASSERT_TRUE(wait_until([&] {
    read_all(master, screen);
    // It polls the status while it waits: some pictures later the rollover ends.
    if (!answered && std::ranges::count(commands_.calls, "status web") > 5 &&
        screen.find("old drained") != std::string::npos) {
      answered = true;
      commands_.open_rollovers.at(0)(done());
    }
    return ::waitpid(pid, &status, WNOHANG) == pid;
  })) << screen;
  read_all(master, screen);
  EXPECT_TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
  EXPECT_THAT(screen, HasSubstr("phased rollover"));
  EXPECT_THAT(screen, HasSubstr("\x1b[?25l"));
  EXPECT_THAT(screen.substr(screen.rfind("\x1b[J")), HasSubstr("generation 2 serves"));
  EXPECT_THAT(screen, HasSubstr("\x1b[?25h")) << "the cursor is back";
}

TEST_F(Relayctl, StopWaitsUntilRelaydHasEnded) {
  start();
  bool ended_server = false;
  const Ended ended = run({"stop"}, [&](pid_t, const std::string&) {
    if (ended_server || std::ranges::count(commands_.calls, "stop") == 0) return;
    ended_server = true;
    server_.reset();
  });
  EXPECT_EQ(ended.code, 0) << ended.err;
  EXPECT_TRUE(ended_server);
  EXPECT_EQ(ended.out, "done as asked\n");
}

TEST_F(Relayctl, ASilentServerIsNotWaitedForForEver) {
  Descriptor listener(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const auto address = SocketAddress::unix_path(options_.socket_path);
  ASSERT_EQ(::bind(listener.get(), address->get(), address->length()), 0);
  ASSERT_EQ(::listen(listener.get(), 8), 0);
  const Ended ended = run({"status"});
  EXPECT_EQ(ended.code, 3);
  EXPECT_THAT(ended.err, HasSubstr("does not answer"));
}

}  // namespace
}  // namespace relayd::control
