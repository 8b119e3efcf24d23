#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>

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

}  // namespace
}  // namespace relayd::backend
