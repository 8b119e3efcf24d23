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
    auto folder =
        SocketFolder::create(runtime.path(), "we/b", 3, 1, static_cast<uid_t>(-1), static_cast<gid_t>(-1));
    ASSERT_TRUE(folder) << folder.error().message;
    auto other =
        SocketFolder::create(runtime.path(), "we/b", 3, 1, static_cast<uid_t>(-1), static_cast<gid_t>(-1));
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
  const auto folder = SocketFolder::create("/tmp/" + std::string(100, 'x'), "web", 1, 0,
                                           static_cast<uid_t>(-1), static_cast<gid_t>(-1));
  ASSERT_FALSE(folder);
  EXPECT_THAT(folder.error().message, testing::HasSubstr("longer than 107 bytes"));
}

TEST(SocketFolders, OfAnotherUser) {
  if (::geteuid() != 0) GTEST_SKIP() << "needs root";
  TemporaryFolder runtime;
  auto folder = SocketFolder::create(runtime.path(), "web", 1, 0, 65534, 65534);
  ASSERT_TRUE(folder) << folder.error().message;
  struct stat info {};
  ASSERT_EQ(::stat(std::filesystem::path(folder->address()->path()).parent_path().c_str(), &info), 0);
  EXPECT_EQ(info.st_uid, 65534U);
  ASSERT_EQ(::stat(runtime.path().c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 0777U, 0711U);  // was 0700: that user could not have come through
}

}  // namespace
}  // namespace relayd::backend
