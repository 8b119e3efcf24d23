#include "proxy/base/address.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "tests/base/scratch_directory.h"

namespace relayd {
namespace {

using testing::HasSubstr;

TEST(AddressParse, WritesBackWhatItRead) {
  for (const std::string text : {"127.0.0.1:8080", "0.0.0.0:0", "255.255.255.255:65535", "[::1]:80", "[::]:0",
                                 "unix:/run/app.sock", "unix:relative.sock", "unix:@abstract"}) {
    const auto address = SocketAddress::parse(text);
    ASSERT_TRUE(address) << text << ": " << address.error().message;
    EXPECT_EQ(address->to_string(), text);
    EXPECT_EQ(*address, *SocketAddress::parse(text));
  }
}

TEST(AddressParse, PartsOfEachFamily) {
  const auto v4 = *SocketAddress::parse("10.1.2.3:80");
  EXPECT_EQ(v4.family(), AF_INET);
  EXPECT_EQ(v4.host(), "10.1.2.3");
  EXPECT_EQ(v4.port(), 80);
  EXPECT_EQ(v4.path(), "");
  const auto v6 = *SocketAddress::parse("[2001:db8::1]:443");
  EXPECT_EQ(v6.family(), AF_INET6);
  EXPECT_EQ(v6.host(), "2001:db8::1");
  EXPECT_EQ(v6.port(), 443);
  const auto un = *SocketAddress::parse("unix:@name");
  EXPECT_TRUE(un.is_unix());
  EXPECT_EQ(un.path(), "@name");
  EXPECT_EQ(un.port(), 0);
  EXPECT_EQ(SocketAddress().to_string(), "-");
  EXPECT_EQ(SocketAddress::loopback(81).to_string(), "127.0.0.1:81");
}

TEST(AddressParse, RefusesWhatIsNoAddress) {
  for (const std::string text : {"",
                                 ":",
                                 "127.0.0.1",
                                 "127.0.0.1:",
                                 "127.0.0.1:65536",
                                 "127.0.0.1:99999999999999999999",
                                 "127.0.0.1:-1",
                                 "127.0.0.1:+1",
                                 "127.0.0.1: 1",
                                 "127.0.0.1:8o",
                                 "localhost:80",
                                 "1.2.3:80",
                                 "::1:80",
                                 "[::1]",
                                 "[::1:80",
                                 "[]:80",
                                 "unix:",
                                 "unix:@",
                                 ":80",
                                 "*:80"}) {
    const auto address = SocketAddress::parse(text);
    ASSERT_FALSE(address) << text;
    EXPECT_FALSE(address.error().message.empty());
  }
}

// inet_pton and the kernel stop at a zero byte: "127.0.0.1\0.example:80" must not become 127.0.0.1.
TEST(AddressParse, RefusesZeroBytes) {
  EXPECT_FALSE(SocketAddress::parse(std::string_view("127.0.0.1\0x:80", 14)));
  EXPECT_FALSE(SocketAddress::parse(std::string_view("unix:/tmp/a\0b", 13)));
  EXPECT_FALSE(SocketAddress::parse(std::string_view("[::1\0]:80", 9)));
}

TEST(AddressParse, UnixPathLength) {
  EXPECT_TRUE(SocketAddress::unix_path("/" + std::string(106, 'x')));
  const auto address = SocketAddress::unix_path("/" + std::string(107, 'x'));
  ASSERT_FALSE(address);
  EXPECT_THAT(address.error().message, HasSubstr("longer than 107 bytes"));
}

TEST(AddressParse, DiffersByPortHostAndFamily) {
  const auto address = *SocketAddress::parse("127.0.0.1:80");
  EXPECT_FALSE(address == *SocketAddress::parse("127.0.0.1:81"));
  EXPECT_FALSE(address == *SocketAddress::parse("127.0.0.2:80"));
  EXPECT_FALSE(address == *SocketAddress::parse("[::1]:80"));
  EXPECT_FALSE(*SocketAddress::parse("unix:/a") == *SocketAddress::parse("unix:/ab"));
}

TEST(AddressBytes, ComeBack) {
  for (const std::string text : {"10.1.2.3:80", "0.0.0.0:0", "[2001:db8::1]:443", "[::]:65535"}) {
    const auto address = *SocketAddress::parse(text);
    EXPECT_EQ(SocketAddress::from_ip_bytes(address.ip_bytes(), address.port()), address) << text;
  }
  EXPECT_EQ(SocketAddress::parse("10.1.2.3:80")->ip_bytes().size(), 4U);
  EXPECT_EQ(SocketAddress::parse("[::1]:80")->ip_bytes().size(), 16U);
  EXPECT_TRUE(SocketAddress::parse("unix:/a")->ip_bytes().empty());
  EXPECT_TRUE(SocketAddress().ip_bytes().empty());
}

int option(int fd, int level, int name) {
  int value = -1;
  socklen_t length = sizeof value;
  EXPECT_EQ(::getsockopt(fd, level, name, &value, &length), 0);
  return value;
}

TEST(ListenOn, TcpSocketIsReadyToAccept) {
  const auto listener = listen_on(SocketAddress::loopback(0), 16);
  ASSERT_TRUE(listener) << listener.error().message;
  const auto address = local_address(listener->get());
  ASSERT_TRUE(address);
  EXPECT_NE(address->port(), 0);
  EXPECT_NE(::fcntl(listener->get(), F_GETFD) & FD_CLOEXEC, 0);
  EXPECT_NE(::fcntl(listener->get(), F_GETFL) & O_NONBLOCK, 0);
  EXPECT_EQ(option(listener->get(), SOL_SOCKET, SO_ACCEPTCONN), 1);
  EXPECT_EQ(option(listener->get(), IPPROTO_TCP, TCP_NODELAY), 1);

  const Descriptor client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(::connect(client.get(), address->get(), address->length()), 0);
  EXPECT_EQ(peer_address(client.get())->to_string(), address->to_string());
  const Descriptor accepted(::accept4(listener->get(), nullptr, nullptr, SOCK_CLOEXEC));
  ASSERT_TRUE(accepted);
  EXPECT_EQ(option(accepted.get(), IPPROTO_TCP, TCP_NODELAY), 1);
}

TEST(ListenOn, TakenPortNamesTheAddressAndTheCure) {
  const auto first = listen_on(SocketAddress::loopback(0), 16);
  ASSERT_TRUE(first);
  const auto address = *local_address(first->get());
  const auto second = listen_on(address, 16);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, EADDRINUSE);
  EXPECT_THAT(second.error().message, HasSubstr(address.to_string()));
  EXPECT_THAT(second.error().message, HasSubstr("another process"));
}

TEST(ListenOn, ForeignAddressIsAnError) {
  const auto listener = listen_on(*SocketAddress::parse("192.0.2.1:0"), 16);  // TEST-NET-1: nobody's
  ASSERT_FALSE(listener);
  EXPECT_EQ(listener.error().code, EADDRNOTAVAIL);
}

class UnixListener : public testing::Test {
 protected:
  ScratchDirectory directory_;
  std::string path_ = directory_.path() + "/s";
  SocketAddress address_ = *SocketAddress::unix_path(path_);
};

TEST_F(UnixListener, ReplacesAStaleFile) {
  {
    const auto gone = listen_on(address_, 1);
    ASSERT_TRUE(gone);
  }  // closing leaves the file
  ASSERT_TRUE(std::filesystem::exists(path_));
  EXPECT_TRUE(listen_on(address_, 1));
}

TEST_F(UnixListener, RefusesToReplaceALiveOne) {
  const auto live = listen_on(address_, 1);
  ASSERT_TRUE(live);
  const auto second = listen_on(address_, 1);
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, EADDRINUSE);
  EXPECT_TRUE(std::filesystem::exists(path_));
}

// A connect to a live listener whose queue is full says EAGAIN, not success.
TEST_F(UnixListener, RefusesToReplaceALiveOneWithAFullQueue) {
  const auto live = listen_on(address_, 0);
  ASSERT_TRUE(live);
  std::vector<Descriptor> waiting;
  for (int i = 0; i < 8; ++i) {
    waiting.emplace_back(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    ::connect(waiting.back().get(), address_.get(), address_.length());
  }
  EXPECT_FALSE(listen_on(address_, 0));
}

// A connect of the wrong type says EPROTOTYPE; that once counted as stale, and the file of a live socket was
// deleted.
TEST_F(UnixListener, RefusesToReplaceALiveSocketOfAnotherType) {
  const Descriptor datagram(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(::bind(datagram.get(), address_.get(), address_.length()), 0);
  EXPECT_FALSE(listen_on(address_, 1));
  EXPECT_TRUE(std::filesystem::exists(path_));
}

TEST_F(UnixListener, LeavesAFileThatIsNoSocketAlone) {
  std::ofstream(path_) << "precious";
  const auto listener = listen_on(address_, 1);
  ASSERT_FALSE(listener);
  EXPECT_EQ(listener.error().code, EEXIST);
  EXPECT_TRUE(std::filesystem::is_regular_file(path_));
}

TEST_F(UnixListener, MissingFolderIsAnError) {
  const auto listener = listen_on(*SocketAddress::unix_path(directory_.path() + "/none/s"), 1);
  ASSERT_FALSE(listener);
  EXPECT_EQ(listener.error().code, ENOENT);
}

}  // namespace
}  // namespace relayd
