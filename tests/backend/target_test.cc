#include "proxy/backend/target.h"

#include "tests/backend/fixture.h"

// Targets with real sockets, and names in a hosts file of the test's own. The loop must be clean at the end.
namespace relayd::backend {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

class TargetTest : public BackendTest {
 protected:
  void SetUp() override {
    BackendTest::SetUp();
    ASSERT_EQ(::setenv("CARES_HOSTS", file("hosts").c_str(), 1), 0);
  }
  void TearDown() override {
    target_.reset();
    BackendTest::TearDown();
    ::unsetenv("CARES_HOSTS");
  }

  // A backend that accepts in the kernel's queue, which is enough for a TCP check. Port 0: a free one.
  SocketAddress listen(const std::string& host, std::uint16_t port = 0) {
    auto made = listen_on(SocketAddress::parse(host + ":" + std::to_string(port)).value(), 64);
    EXPECT_TRUE(made) << made.error().message;
    const SocketAddress address = local_address(made->get()).value();
    listeners_.insert_or_assign(address.to_string(), std::move(*made));
    return address;
  }
  void close(const SocketAddress& address) { listeners_.erase(address.to_string()); }

  config::Service named(std::vector<std::string> targets, config::Check check = config::Check::kTcp) const {
    config::Service result;
    result.name = "web";
    result.backend.targets = std::move(targets);
    result.health.check = check;
    result.health.interval = Duration(20);
    return result;
  }
  InstanceEvents telling() {
    InstanceEvents events = recording();
    events.addresses_changed = [this] { ++changes_; };
    events.told = [this](const std::string& type, const std::string& text) {
      told_.push_back(type + ": " + text);
    };
    return events;
  }
  void begin(const config::Service& service, InstanceEvents events, std::uint16_t index = 0) {
    auto shared = std::make_shared<Definition>(Definition{service, {}});
    target_ = make_instance(*context_, shared, 3, index, std::move(events));
    const auto started = target_->start();
    ASSERT_TRUE(started) << started.error().message;
  }
  void begin(const config::Service& service) { begin(service, telling()); }
  bool run_until_ready() {
    return run_until([this] { return seen_.ready == 1; });
  }
  std::vector<std::string> addresses() const {
    std::vector<std::string> texts;
    for (const SocketAddress& address : target_->addresses()) texts.push_back(address.to_string());
    return texts;
  }

  std::map<std::string, Descriptor> listeners_;
  std::unique_ptr<AnyInstance> target_;
  int changes_ = 0;
  std::vector<std::string> told_;
};

TEST_F(TargetTest, IsReadyWhenItAnswersAndTakenOutAndBroughtBack) {
  const SocketAddress address = listen("127.0.0.1");
  close(address);
  begin(named({address.to_string()}));
  EXPECT_TRUE(addresses().empty());
  const std::string refused = "target " + address.to_string() + ": connect " + address.to_string() +
                              ": Connection refused (ECONNREFUSED)";
  ASSERT_TRUE(run_until([&] { return target_->last_check_error() == refused; }))
      << target_->last_check_error();
  EXPECT_EQ(seen_.ready, 0);

  listen("127.0.0.1", address.port());
  ASSERT_TRUE(run_until_ready());
  EXPECT_THAT(addresses(), ElementsAre(address.to_string()));
  EXPECT_EQ(target_->address(), address);
  EXPECT_EQ(target_->pid(), 0);
  EXPECT_EQ(target_->target(), address.to_string());
  EXPECT_TRUE(target_->alive());

  close(address);
  ASSERT_TRUE(run_until([this] { return seen_.unhealthy.size() == 1; }));
  EXPECT_EQ(seen_.unhealthy[0], refused);
  EXPECT_TRUE(addresses().empty());

  listen("127.0.0.1", address.port());
  ASSERT_TRUE(run_until([this] { return seen_.healthy == 1; }));
  EXPECT_THAT(addresses(), ElementsAre(address.to_string()));
  EXPECT_EQ(changes_, 0);
  EXPECT_TRUE(told_.empty()) << "an address has nothing to tell but its health";
}

TEST_F(TargetTest, IsTheOneOfItsIndex) {
  const SocketAddress address = listen("127.0.0.1");
  begin(named({"127.0.0.1:1", address.to_string()}), telling(), 1);
  ASSERT_TRUE(run_until_ready());
  EXPECT_EQ(target_->target(), address.to_string());
}

TEST_F(TargetTest, StopLetsItGoAndSaysSoLater) {
  const SocketAddress address = listen("127.0.0.1");
  begin(named({address.to_string()}));
  ASSERT_TRUE(run_until_ready());
  target_->stop();
  EXPECT_FALSE(target_->alive());
  EXPECT_TRUE(seen_.exits.empty()) << "never inside stop()";
  target_->kill();  // the machine may say both
  ASSERT_TRUE(run_until_exit());
  run_until([n = 0]() mutable { return ++n > 10; });
  EXPECT_EQ(seen_.exits.size(), 1U);
  EXPECT_EQ(seen_.exits[0].pid, 0);
  EXPECT_EQ(seen_.exits[0].describe(), "no longer used");
  EXPECT_TRUE(seen_.unhealthy.empty());
}

TEST_F(TargetTest, KillBeforeItIsReadyKeepsWhatItsChecksSaid) {
  const SocketAddress address = listen("127.0.0.1");
  close(address);
  begin(named({address.to_string()}));
  ASSERT_TRUE(run_until([this] { return !target_->last_check_error().empty(); }));
  target_->kill();
  listen("127.0.0.1", address.port());
  ASSERT_TRUE(run_until_exit());
  EXPECT_THAT(target_->last_check_error(), HasSubstr("Connection refused"));
  EXPECT_EQ(seen_.ready, 0);
}

TEST_F(TargetTest, ANameWithSeveralAddressesIsAtThoseThatAreWell) {
  const SocketAddress one = listen("127.77.0.1");
  const SocketAddress two = listen("127.77.0.2", one.port());
  const std::string port = ":" + std::to_string(one.port());
  close(two);
  write_text(file("hosts"), "127.77.0.2 app.test\n127.77.0.1 app.test\n");
  begin(named({"app.test" + port}));
  ASSERT_TRUE(run_until_ready());
  EXPECT_THAT(addresses(), ElementsAre(one.to_string()));
  EXPECT_EQ(target_->target(), "app.test" + port);
  EXPECT_THAT(target_->status_text(), HasSubstr(two.to_string() + " fails its checks: connect "));
  ASSERT_EQ(told_.size(), 1U);
  EXPECT_THAT(told_[0], testing::StartsWith("target_addresses: app.test" + port + " is " + one.to_string() +
                                            "; " + two.to_string() + " fails its checks"));

  listen("127.77.0.2", two.port());
  ASSERT_TRUE(run_until([this] { return changes_ == 1; }));
  EXPECT_THAT(addresses(), ElementsAre(one.to_string(), two.to_string()));
  EXPECT_EQ(target_->status_text(), "");
  close(one);
  ASSERT_TRUE(run_until([this] { return changes_ == 2; }));
  EXPECT_THAT(addresses(), ElementsAre(two.to_string()));
  close(two);
  ASSERT_TRUE(run_until([this] { return !seen_.unhealthy.empty(); }));
  EXPECT_EQ(changes_, 2);
  EXPECT_TRUE(addresses().empty());
}

// What the name stood for before serves until what it stands for now is well.
TEST_F(TargetTest, ANameThatChangesItsAddressIsFollowed) {
  const SocketAddress one = listen("127.77.0.1");
  const SocketAddress two = listen("127.77.0.2", one.port());
  close(two);
  write_text(file("hosts"), "127.77.0.1 app.test\n");
  begin(named({"app.test:" + std::to_string(one.port())}));
  ASSERT_TRUE(run_until_ready());

  write_text(file("hosts"), "127.77.0.2 app.test\n");
  ASSERT_TRUE(run_until([&] { return target_->status_text().find(two.to_string()) != std::string::npos; }));
  EXPECT_THAT(addresses(), ElementsAre(one.to_string()));
  listen("127.77.0.2", two.port());
  ASSERT_TRUE(run_until([this] { return changes_ == 1; }));
  EXPECT_THAT(addresses(), ElementsAre(two.to_string()));
  EXPECT_EQ(target_->status_text(), "");
  EXPECT_TRUE(seen_.unhealthy.empty());
  EXPECT_THAT(told_.back(), HasSubstr(" is " + two.to_string()));
}

// The container went, and its name with it to another address: nobody waits for the old one's record.
TEST_F(TargetTest, AFailedCheckLooksTheNameUpAnew) {
  const SocketAddress one = listen("127.77.0.1");
  const SocketAddress two = listen("127.77.0.2", one.port());
  write_text(file("hosts"), "127.77.0.1 app.test\n");
  begin(named({"app.test:" + std::to_string(one.port())}));
  ASSERT_TRUE(run_until_ready());
  write_text(file("hosts"), "127.77.0.2 app.test\n");
  close(one);
  ASSERT_TRUE(run_until([&] { return addresses() == std::vector{two.to_string()}; }));
}

TEST_F(TargetTest, ANameThatCannotBeResolvedIsTriedAgainAndSaysWhy) {
  begin(named({"app.onion:80"}));  // RFC 7686: never asked of a name server
  ASSERT_TRUE(run_until([this] { return !told_.empty(); }));
  EXPECT_THAT(told_[0], testing::StartsWith("target_unresolved: cannot resolve app.onion: "));
  EXPECT_THAT(target_->last_check_error(),
              testing::StartsWith("target app.onion:80: cannot resolve app.onion: "));
  EXPECT_EQ(seen_.ready, 0);
  target_->stop();
  EXPECT_TRUE(run_until_exit());
}

TEST_F(TargetTest, ChecksByCommandGetTheAddress) {
  const SocketAddress address = listen("127.0.0.1");
  auto service = named({address.to_string()}, config::Check::kCommand);
  const std::string script = "test -e " + file("ok") + " || {{ echo not yet at $0 $HOST $PORT; exit 5; }}";
  service.health.command = {"sh", "-c", script, "{address}"};
  begin(service);
  const std::string expected = "target " + address.to_string() +
                               ": check command sh: exit status 5: not yet at " + address.to_string() +
                               " 127.0.0.1 " + std::to_string(address.port());
  ASSERT_TRUE(run_until([&] { return target_->last_check_error() == expected; }))
      << target_->last_check_error();
  write_text(file("ok"), "");
  EXPECT_TRUE(run_until_ready());
}

TEST_F(TargetTest, UncheckedOnesAreReadyAtOnce) {
  begin(named({"unix:" + file("app.sock")}, config::Check::kNone));
  EXPECT_EQ(seen_.ready, 0) << "never inside start()";
  ASSERT_TRUE(run_until_ready());
  EXPECT_THAT(addresses(), ElementsAre("unix:" + file("app.sock")));
}

TEST_F(TargetTest, MayBeDestroyedInsideItsCallbacksAndWhileItLooksUp) {
  const SocketAddress address = listen("127.77.0.1");
  write_text(file("hosts"), "127.77.0.1 app.test\n");
  InstanceEvents events = telling();
  events.ready = [this] {
    ++seen_.ready;
    target_.reset();
  };
  begin(named({"app.test:" + std::to_string(address.port())}), std::move(events));
  ASSERT_TRUE(run_until_ready());
  begin(named({"app.test:" + std::to_string(address.port())}));
  target_.reset();
  begin(named({"not-in-the-file.test:80"}));  // asks name servers, if there are any
  target_.reset();
}

}  // namespace
}  // namespace relayd::backend
