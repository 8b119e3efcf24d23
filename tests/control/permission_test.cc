#include <gmock/gmock.h>
#include <grp.h>
#include <sys/wait.h>

#include "control/server/peer.h"
#include "tests/control/control_fixture.h"

namespace relayd::control {
namespace {

using testing::HasSubstr;

constexpr gid_t kGroup = 54321;  // in no database: the server is given it by its number
constexpr uid_t kStranger = 65534;

class Permission : public ControlFixture {
 protected:
  void SetUp() override {
    ControlFixture::SetUp();
    ASSERT_EQ(::chmod(folder_.c_str(), 0755), 0);
  }
  mode_t mode() const {
    struct stat status {};
    EXPECT_EQ(::lstat(options_.socket_path.c_str(), &status), 0);
    return status.st_mode & 07777;
  }
  // What a process of that user and these groups is answered; "EACCES" where it cannot even connect.
  std::string answer_to(uid_t user, gid_t group, const std::vector<gid_t>& groups) {
    auto out = make_pipe();
    const pid_t child = ::fork();
    if (child == 0) {
      // Only system calls from here: this is a copy of a process with sanitizers in it.
      std::string text = "setup failed";
      if (::setgroups(groups.size(), groups.data()) == 0 && ::setresgid(group, group, group) == 0 &&
          ::setresuid(user, user, user) == 0) {
        text = connect_and_ask();
      }
      [[maybe_unused]] const ssize_t written = ::write(out->write.get(), text.data(), text.size());
      ::_exit(0);
    }
    int status = 0;
    EXPECT_TRUE(wait_until([&] { return ::waitpid(child, &status, WNOHANG) == child; }));
    char bytes[4096];
    const ssize_t count = ::read(out->read.get(), bytes, sizeof bytes);
    return {bytes, count > 0 ? static_cast<std::size_t>(count) : 0};
  }
  std::string connect_and_ask() const {
    const int fd = ::socket(AF_UNIX, SOCK_STREAM, 0);
    const auto address = SocketAddress::unix_path(options_.socket_path);
    if (::connect(fd, address->get(), address->length()) != 0)
      return errno == EACCES ? "EACCES" : "cannot connect";
    const std::string line = write_request(1, VersionCall{});
    [[maybe_unused]] const ssize_t sent = ::send(fd, line.data(), line.size(), MSG_NOSIGNAL);
    char bytes[4096];
    const ssize_t count = ::recv(fd, bytes, sizeof bytes, 0);
    return count > 0 ? std::string(bytes, static_cast<std::size_t>(count)) : "closed";
  }
};

TEST_F(Permission, TheFileHasExactlyTheModeThatWasAskedFor) {
  const mode_t before = ::umask(0);
  start();
  EXPECT_EQ(mode(), 0600u);
  server_.reset();
  ::umask(0077);
  options_.mode = 0660;
  start();
  EXPECT_EQ(mode(), 0660u);
  ::umask(before);
}

TEST_F(Permission, AnUnknownGroupIsAnErrorThatSaysSo) {
  options_.group = "no-such-group-here";
  const auto server = Server::start(loop_, options_, commands_);
  ASSERT_FALSE(server);
  EXPECT_THAT(server.error().message, HasSubstr("no-such-group-here"));
}

TEST_F(Permission, OthersAreRefusedByTheFileOrByTheirCredentials) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to become somebody else";
  start();
  EXPECT_EQ(answer_to(kStranger, kStranger, {}), "EACCES");
  EXPECT_THAT(answer_to(0, 0, {}), HasSubstr("result"));
  server_.reset();
  options_.mode = 0666;  // the file lets everybody in: the credentials are looked at all the same
  start();
  EXPECT_THAT(answer_to(kStranger, kStranger, {}), HasSubstr("-32002"));
  EXPECT_THAT(commands_.calls, testing::IsEmpty());
}

TEST_F(Permission, MembersOfTheGroupAreAdmitted) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root to become somebody else";
  options_.group = std::to_string(kGroup);
  start();
  EXPECT_EQ(mode(), 0660u) << "the group gets its rights where one is given";
  EXPECT_THAT(answer_to(kStranger, kGroup, {}), HasSubstr("result")) << "by its own group";
  EXPECT_THAT(answer_to(kStranger, kStranger, {7, kGroup, 9}), HasSubstr("result")) << "by a further group";
  EXPECT_EQ(answer_to(kStranger, kStranger, {7, 9}), "EACCES");
}

}  // namespace
}  // namespace relayd::control
