#include "tests/control/relayctl_fixture.h"

namespace relayd::control {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;
using testing::Not;

// relayctl upgrade waits on one connection while relayd becomes another executable.
class RelayctlUpgrade : public Relayctl {
 protected:
  static UpgradeResult upgraded() { return {"1.2.0", "1.2.1", "/opt/relayd", 4711, 9000, 43}; }
  // Runs `then` once, as soon as the upgrade was asked for.
  std::function<void(pid_t, const std::string&)> once_asked(std::function<void(pid_t)> then) {
    return [this, then = std::move(then), done = false](pid_t pid, const std::string&) mutable {
      if (!done && (done = !commands_.open_upgrades.empty())) then(pid);
    };
  }
};

TEST_F(RelayctlUpgrade, DoneAsTextAndAsJson) {
  start();
  commands_.instant_upgrade = upgraded();
  const Ended text = run({"upgrade", "--binary", "/opt/relayd"});
  EXPECT_EQ(text.code, 0) << text.err;
  EXPECT_THAT(text.err, IsEmpty());
  EXPECT_EQ(
      text.out,
      "relayd 1.2.0 was replaced by 1.2.1: pid 4711 as before, 9000 connections kept, silent for 43 ms\n");
  const Ended json = run({"upgrade", "--json"});
  EXPECT_EQ(json.code, 0) << json.err;
  expect_one_document(json.out);
  EXPECT_EQ(read_upgrade(lines_of(json.out).at(0))->silence_ms, 43);
  EXPECT_THAT(commands_.calls, testing::IsSupersetOf({"upgrade /opt/relayd", "upgrade "}));
}

TEST_F(RelayctlUpgrade, TheNewRelaydAnswersOnTheSameConnection) {
  start();
  bool replaced = false;
  const Ended ended = run({"upgrade"}, [&](pid_t, const std::string&) {
    if (commands_.open_upgrades.empty()) return;
    if (std::exchange(replaced, true)) return commands_.open_upgrades.at(0)(upgraded());
    restore(forget_server());
    server_->resume();
  });
  EXPECT_EQ(ended.code, 0) << ended.err;
  EXPECT_TRUE(replaced);
  EXPECT_THAT(ended.out, HasSubstr("replaced by 1.2.1"));
}

TEST_F(RelayctlUpgrade, FailedIsOneAndTheOldRelaydGoesOn) {
  start();
  commands_.instant_upgrade =
      std::unexpected(Failure{ErrorCode::kFailed, "/opt/relayd: Exec format error (ENOEXEC)"});
  const Ended text = run({"upgrade", "--binary", "/opt/relayd"});
  EXPECT_EQ(text.code, 1);
  EXPECT_THAT(text.out, IsEmpty());
  EXPECT_THAT(text.err,
              HasSubstr(" was not replaced and goes on: /opt/relayd: Exec format error (ENOEXEC)\n"));
  const Ended json = run({"upgrade", "--json"});
  EXPECT_EQ(json.code, 1);
  expect_one_document(json.out);
  EXPECT_THAT(json.out, HasSubstr("ENOEXEC"));
}

TEST_F(RelayctlUpgrade, RelaydThatEndsMeanwhileIsOneAndNotSaidToGoOn) {
  start();
  const Ended orderly = run({"upgrade"}, once_asked([&](pid_t) { server_.reset(); }));
  EXPECT_EQ(orderly.code, 1);
  EXPECT_THAT(orderly.err, HasSubstr("relayd ended before this was done"));
  EXPECT_THAT(orderly.err, HasSubstr("nobody answers any more"));
  EXPECT_THAT(orderly.err, Not(HasSubstr("goes on")));
  commands_ = FakeCommands{};
  start();
  const auto killed = once_asked([&](pid_t) {
    const ServerRecord record = forget_server();
    for (const ClientRecord& client : record.clients) ::close(client.fd);
    ::close(record.fd);
  });
  const Ended sudden = run({"upgrade", "--json"}, killed);
  EXPECT_EQ(sudden.code, 1);
  EXPECT_THAT(sudden.err, HasSubstr("ended before the upgrade was done"));
  expect_one_document(sudden.out);
}

TEST_F(RelayctlUpgrade, TimeoutIsFiveAndItGoesOn) {
  start();
  const Ended ended = run({"upgrade", "--timeout", "50ms"});
  EXPECT_EQ(ended.code, 5);
  EXPECT_THAT(ended.err, HasSubstr("the upgrade goes on"));
  expect_one_document(run({"upgrade", "--timeout", "50ms", "--json"}).out);
  EXPECT_EQ(commands_.open_upgrades.size(), 2u);
}

TEST_F(RelayctlUpgrade, InterruptLeavesTheUpgradeAlone) {
  start();
  const Ended ended = run({"upgrade"}, once_asked([](pid_t pid) { ::kill(pid, SIGINT); }));
  EXPECT_EQ(ended.code, 130);
  EXPECT_THAT(ended.err, HasSubstr("the upgrade goes on"));
}

TEST_F(RelayctlUpgrade, TheOtherExits) {
  EXPECT_EQ(run({"upgrade"}).code, 3) << "no relayd";
  start();
  EXPECT_EQ(run({"upgrade", "--binary", ""}).code, 2);
  EXPECT_THAT(commands_.calls, IsEmpty());
  commands_.instant_upgrade = std::unexpected(Failure{ErrorCode::kBusy, "a rollover of web is in progress"});
  EXPECT_EQ(run({"upgrade"}).code, 4);
  commands_.instant_upgrade = std::unexpected(Failure{ErrorCode::kNotPermitted, "user 7 may not"});
  const Ended refused = run({"upgrade"});
  EXPECT_EQ(refused.code, 6);
  EXPECT_EQ(refused.err, "relayctl: user 7 may not\n");
}

}  // namespace
}  // namespace relayd::control
