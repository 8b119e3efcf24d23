#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include <set>

#include "proxy/backend/port.h"
#include "proxy/backend/socket_folder.h"
#include "tests/backend/fixture.h"

namespace relayd::backend {
namespace {

TEST(Ports, ParseTheKernelsRange) {
  EXPECT_EQ(parse_port_range("32768\t60999\n").value(), (PortRange{32768, 60999}));
  for (const char* text : {"", "x", "1", "5 4", "0 10", "1 65536"})
    EXPECT_FALSE(parse_port_range(text)) << text;
}

TEST(Ports, OutsideTheEphemeralRange) {
  using Ranges = std::vector<PortRange>;
  EXPECT_EQ(ranges_outside({32768, 60999}), (Ranges{{61000, 65535}, {1024, 32767}}));
  EXPECT_EQ(ranges_outside({1024, 60999}), (Ranges{{61000, 65535}}));
  EXPECT_EQ(ranges_outside({500, 900}), (Ranges{{1024, 65535}}));
  EXPECT_EQ(ranges_outside({32768, 65535}), (Ranges{{1024, 32767}}));
  EXPECT_EQ(ranges_outside({1024, 65535}), Ranges{});
}

TEST(Ports, EachLeaseIsAnotherPortAndOutsideTheRange) {
  const auto ephemeral = parse_port_range(read_text("/proc/sys/net/ipv4/ip_local_port_range")).value();
  std::set<std::uint16_t> seen;
  std::vector<PortLease> leases;
  for (int i = 0; i < 50; ++i) {
    auto lease = PortLease::take();
    ASSERT_TRUE(lease) << lease.error().message;
    EXPECT_TRUE(lease->port() < ephemeral.first || lease->port() > ephemeral.last) << lease->port();
    EXPECT_TRUE(seen.insert(lease->port()).second);
    leases.push_back(std::move(*lease));
  }
}

TEST(Ports, TakenAndLeasedOnesAreSkippedAndThenAnEphemeralOneHasToDo) {
  auto first = PortLease::take();
  ASSERT_TRUE(first);
  const PortRange only{first->port(), first->port()};
  auto second = PortLease::take_from({only});
  ASSERT_TRUE(second);
  EXPECT_NE(second->port(), first->port());  // leased, though nobody is bound to it
  first->reset();
  auto third = PortLease::take_from({only});
  ASSERT_TRUE(third);
  EXPECT_EQ(third->port(), only.first);
  third->reset();
  const auto taken = listen_on(SocketAddress::loopback(only.first), 1);
  ASSERT_TRUE(taken) << taken.error().message;
  auto fourth = PortLease::take_from({only});
  ASSERT_TRUE(fourth);
  EXPECT_NE(fourth->port(), only.first);  // not leased, but somebody listens there
}

TEST(SocketFolders, FreshPrivateAndRemoved) {
  TemporaryFolder runtime;
  std::string path;
  {
    auto folder = SocketFolder::create(runtime.path(), "we/b", 3, 1, std::nullopt);
    ASSERT_TRUE(folder) << folder.error().message;
    auto other = SocketFolder::create(runtime.path(), "we/b", 3, 1, std::nullopt);
    ASSERT_TRUE(other);
    EXPECT_NE(folder->address()->path(), other->address()->path());
    path = std::filesystem::path(folder->address()->path()).parent_path();
    EXPECT_THAT(path, testing::StartsWith(runtime.path() + "/we_b-3-1-"));
    struct stat info {};
    ASSERT_EQ(::stat(path.c_str(), &info), 0);
    EXPECT_EQ(info.st_mode & 0777U, 0700U);
    std::ofstream(path + "/app.sock.lock") << "left behind";
  }
  EXPECT_FALSE(exists(path));
}

TEST(SocketFolders, TooLongAPathIsAnErrorThatSaysSo) {
  const auto folder = SocketFolder::create("/tmp/" + std::string(100, 'x'), "web", 1, 0, std::nullopt);
  ASSERT_FALSE(folder);
  EXPECT_THAT(folder.error().message, testing::HasSubstr("longer than 107 bytes"));
}

const Identity kNobody{.uid = 65534, .gid = 65534, .groups = {65534}, .name = "nobody", .home = "/"};

mode_t mode_of(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 ? info.st_mode & 07777U : 0;
}

TEST(SocketFolders, OfAnotherUserAreReachedThroughAFolderOfRelaydsOwn) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  TemporaryFolder runtime;  // is named relayd-...
  ASSERT_EQ(mode_of(runtime.path()), 0700U);
  auto folder = SocketFolder::create(runtime.path(), "web", 1, 0, kNobody);
  ASSERT_TRUE(folder) << folder.error().message;
  struct stat info {};
  ASSERT_EQ(::stat(std::filesystem::path(folder->address()->path()).parent_path().c_str(), &info), 0);
  EXPECT_EQ(info.st_uid, 65534U);
  EXPECT_EQ(mode_of(runtime.path()), 0711U);  // that user could not have come through
}

// control.socket: /root/relayd.sock must not open /root.
TEST(SocketFolders, NeverOpenAFolderThatIsNotRelaydsOwn) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  TemporaryFolder place;
  ASSERT_EQ(::chmod(place.path().c_str(), 0755), 0);
  const std::string home = place.file("home");
  std::filesystem::create_directory(home);
  ASSERT_EQ(::chmod(home.c_str(), 0700), 0);
  const std::string others = place.file("relayd-of-another");
  std::filesystem::create_directory(others);
  ASSERT_EQ(::chmod(others.c_str(), 0700), 0);
  ASSERT_EQ(::chown(others.c_str(), 12345, 12345), 0);
  std::filesystem::create_directory_symlink(home, place.file("relayd-link"));
  std::filesystem::create_directory(home + "/relayd");  // can be opened, but is behind a closed door
  for (const std::string& runtime : {home, others, place.file("relayd-link"), home + "/relayd"}) {
    const auto folder = SocketFolder::create(runtime, "web", 1, 0, kNobody);
    ASSERT_FALSE(folder) << runtime;
    EXPECT_THAT(
        folder.error().message,
        testing::HasSubstr("is not searchable for backend.user nobody: put control.socket elsewhere"));
  }
  EXPECT_EQ(mode_of(home), 0700U);
  EXPECT_EQ(mode_of(others), 0700U);
  EXPECT_TRUE(SocketFolder::create(home, "web", 1, 0, std::nullopt)) << "relayd itself may";
  ASSERT_EQ(::chown(home.c_str(), 0, 65534), 0);
  ASSERT_EQ(::chmod(home.c_str(), 0710), 0);
  EXPECT_TRUE(SocketFolder::create(home, "web", 1, 0, kNobody)) << "his group may";
}

// kill -9 of relayd: no destructor runs.
void leave_folders_behind(const std::string& runtime, const std::optional<Identity>& identity) {
  const pid_t relayd = ::fork();
  if (relayd == 0) {
    const auto first = SocketFolder::create(runtime, "web", 3, 1, identity);
    const auto second = SocketFolder::create(runtime, "we-b-1", 4294967295, 65535, identity);
    if (!first || !second) ::_exit(1);
    const auto socket = listen_on(*first->address(), 1);
    ::_exit(socket ? 0 : 1);
  }
  int status = -1;
  ASSERT_EQ(::waitpid(relayd, &status, 0), relayd);
  ASSERT_EQ(status, 0);
}

std::size_t entries_of(const std::string& folder) {
  return static_cast<std::size_t>(
      std::distance(std::filesystem::directory_iterator(folder), std::filesystem::directory_iterator()));
}

TEST(StaleSocketFolders, OfAKilledRelaydAreRemoved) {
  TemporaryFolder runtime;
  leave_folders_behind(runtime.path(), std::nullopt);
  ASSERT_EQ(entries_of(runtime.path()), 2U);
  remove_stale_folders(runtime.path());
  EXPECT_EQ(entries_of(runtime.path()), 0U);
  remove_stale_folders(runtime.path());
  remove_stale_folders(runtime.file("nowhere"));
}

TEST(StaleSocketFolders, OfAnotherUserAreRemovedWhereOnlyRelaydCanHaveMadeThem) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  TemporaryFolder runtime;
  leave_folders_behind(runtime.path(), kNobody);
  ASSERT_EQ(entries_of(runtime.path()), 2U);
  ASSERT_EQ(::chmod(runtime.path().c_str(), 01777), 0);  // such as /tmp
  remove_stale_folders(runtime.path());
  EXPECT_EQ(entries_of(runtime.path()), 2U);
  ASSERT_EQ(::chmod(runtime.path().c_str(), 0755), 0);
  remove_stale_folders(runtime.path());
  EXPECT_EQ(entries_of(runtime.path()), 0U);
}

TEST(StaleSocketFolders, LiveOnesAndWhatRelaydDidNotMakeStay) {
  TemporaryFolder runtime;
  auto starting = SocketFolder::create(runtime.path(), "web", 1, 0, std::nullopt);  // no socket in it yet
  ASSERT_TRUE(starting);
  const SocketFolder moved = std::move(*starting);
  const std::string answered = runtime.file("web-1-1-0123abcd");  // of a relayd without locks
  std::filesystem::create_directory(answered);
  const auto socket = listen_on(*SocketAddress::unix_path(answered + "/app.sock"), 1);
  ASSERT_TRUE(socket);
  const std::vector<std::string> names = {"data",
                                          "web-1-2-backup00",
                                          "web-1-0123abcd",
                                          "-1-1-0123abcd",
                                          "web-1-1-0123abc",
                                          "web-1-1-0123ABCD",
                                          "web-x-1-0123abcd"};
  for (const std::string& name : names) std::filesystem::create_directory(runtime.file(name));
  write_text(runtime.file("web-1-3-0123abcd"), "a file");
  TemporaryFolder elsewhere;
  write_text(elsewhere.file("kept"), "");
  std::filesystem::create_directory_symlink(elsewhere.path(), runtime.file("web-1-4-0123abcd"));
  const std::size_t before = entries_of(runtime.path());
  remove_stale_folders(runtime.path());
  EXPECT_EQ(entries_of(runtime.path()), before);
  EXPECT_TRUE(exists(elsewhere.file("kept")));
}

}  // namespace
}  // namespace relayd::backend
