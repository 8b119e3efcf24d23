#include "proxy/backend/notify.h"

#include <sys/socket.h>
#include <sys/wait.h>

#include <cstring>

#include "proxy/base/address.h"
#include "tests/backend/fixture.h"

namespace relayd::backend {
namespace {

// Sends from the calling process; `passed` >= 0 goes along as a descriptor.
void send_to(const std::string& address, const std::string& text, int passed = -1) {
  const auto to = SocketAddress::unix_path(address);
  const Descriptor socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  iovec part{const_cast<char*>(text.data()), text.size()};
  msghdr header{};
  header.msg_name = const_cast<sockaddr*>(to->get());
  header.msg_namelen = to->length();
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(int))] = {};
  if (passed >= 0) {
    header.msg_control = control;
    header.msg_controllen = sizeof control;
    cmsghdr* rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof passed);
    std::memcpy(CMSG_DATA(rights), &passed, sizeof passed);
  }
  ::sendmsg(socket.get(), &header, MSG_NOSIGNAL);
}

TEST(ParseNotify, Table) {
  const std::vector<std::pair<std::string, NotifyMessage>> table = {
      {"", {}},
      {"READY=1", {.ready = true, .stopping = false, .status = {}}},
      {"READY=1\n", {.ready = true, .stopping = false, .status = {}}},
      {"READY=0", {}},
      {"XREADY=1", {}},
      {"STOPPING=1\nMAINPID=77\nWATCHDOG=1", {.ready = false, .stopping = true, .status = {}}},
      {"STATUS=warming \x1b[1m up\nREADY=1", {.ready = true, .stopping = false, .status = "warming  [1m up"}},
      {"STATUS=", {.ready = false, .stopping = false, .status = ""}},
      {"STATUS=" + std::string(1000, 'x'),
       {.ready = false, .stopping = false, .status = std::string(256, 'x')}},
  };
  for (const auto& [text, expected] : table) EXPECT_EQ(parse_notify(text), expected) << text;
}

class NotifySocketTest : public testing::Test {
 protected:
  // The group that the test was started in may be of another PID namespace, where its number here is 0.
  static void SetUpTestSuite() { ::setpgid(0, 0); }
  void SetUp() override {
    auto made = NotifySocket::create(loop_, [this](const NotifyMessage& m) { messages_.push_back(m); });
    ASSERT_TRUE(made) << made.error().message;
    socket_ = std::move(*made);
  }
  void TearDown() override {
    socket_.reset();
    EXPECT_TRUE(loop_.close());
  }
  // Statuses in their order, once `last` has come.
  std::vector<std::string> statuses_until(const std::string& last) {
    EXPECT_TRUE(run_until(loop_, [&] { return !messages_.empty() && messages_.back().status == last; }));
    std::vector<std::string> result;
    for (const auto& message : messages_) result.push_back(message.status.value_or("-"));
    return result;
  }

  Loop loop_;
  std::vector<NotifyMessage> messages_;
  std::unique_ptr<NotifySocket> socket_;
};

TEST_F(NotifySocketTest, TakesTheProcessItselfAndItsGroupAndNobodyElse) {
  EXPECT_THAT(socket_->address(), testing::StartsWith("@"));
  socket_->accept_from(::getpgrp());
  send_to(socket_->address(), "STATUS=of the group");
  const pid_t foreign = ::fork();
  if (foreign == 0) {
    ::setpgid(0, 0);
    send_to(socket_->address(), "STATUS=foreign");
    ::_exit(0);
  }
  siginfo_t info{};
  ASSERT_EQ(::waitid(P_PID, static_cast<id_t>(foreign), &info, WEXITED | WNOWAIT),
            0);  // a zombie keeps its group
  send_to(socket_->address(), "STATUS=last");
  EXPECT_EQ(statuses_until("last"), (std::vector<std::string>{"of the group", "last"}));
  messages_.clear();
  socket_->accept_from(foreign);
  send_to(socket_->address(), "STATUS=no longer ours");
  socket_->accept_from(::getpid());
  send_to(socket_->address(), "STATUS=the leader");
  statuses_until("the leader");
  ASSERT_EQ(::waitpid(foreign, nullptr, 0), foreign);
}

TEST_F(NotifySocketTest, NobodyBeforeTheLeaderIsKnown) {
  send_to(socket_->address(), "STATUS=early");
  loop_.run_nowait();
  socket_->accept_from(::getpgrp());
  send_to(socket_->address(), "STATUS=last");
  EXPECT_EQ(statuses_until("last"), std::vector<std::string>{"last"});
}

TEST_F(NotifySocketTest, OversizedMessagesAreIgnored) {
  socket_->accept_from(::getpgrp());
  send_to(socket_->address(), "STATUS=big\n" + std::string(5000, 'x'));
  send_to(socket_->address(), "STATUS=last");
  EXPECT_EQ(statuses_until("last"), std::vector<std::string>{"last"});
}

// systemd-notify waits until the descriptor it sent with BARRIER=1 has been closed everywhere.
TEST_F(NotifySocketTest, BarrierIsAnsweredByClosingWhatCameAlong) {
  socket_->accept_from(::getpgrp());
  auto pipe = make_pipe();
  ASSERT_TRUE(pipe);
  const std::size_t before = open_descriptors();
  send_to(socket_->address(), "BARRIER=1", pipe->write.get());
  pipe->write.reset();
  ASSERT_TRUE(run_until(loop_, [&] {
    pollfd entry{pipe->read.get(), POLLIN, 0};
    return ::poll(&entry, 1, 0) > 0 && (entry.revents & POLLHUP) != 0;
  }));
  EXPECT_EQ(open_descriptors(), before - 1);
}

TEST_F(NotifySocketTest, MayBeDestroyedInItsCallback) {
  auto made = NotifySocket::create(loop_, [this](const NotifyMessage&) { socket_.reset(); });
  ASSERT_TRUE(made);
  socket_ = std::move(*made);
  socket_->accept_from(::getpgrp());
  send_to(socket_->address(), "READY=1");
  send_to(socket_->address(), "READY=1");
  EXPECT_TRUE(run_until(loop_, [this] { return socket_ == nullptr; }));
}

}  // namespace
}  // namespace relayd::backend
