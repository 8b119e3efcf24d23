// Bytes: that they arrive, all of them, in order, with the ends that were meant.
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cstring>
#include <random>
#include <thread>

#include "tests/net/support.h"

namespace relayd::net::test {
namespace {

enum class Kind { kTcp, kUnix };

struct Setting {
  unsigned threads;
  Kind kind;
};

std::string setting_name(const ::testing::TestParamInfo<Setting>& tested) {
  return std::string(tested.param.kind == Kind::kTcp ? "tcp" : "unix") + std::to_string(tested.param.threads);
}

void send_with_descriptor(int fd, std::string text) {
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof fd)] = {};
  iovec bytes{.iov_base = text.data(), .iov_len = text.size()};
  msghdr message{};
  message.msg_iov = &bytes;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof control;
  cmsghdr* head = CMSG_FIRSTHDR(&message);
  head->cmsg_level = SOL_SOCKET;
  head->cmsg_type = SCM_RIGHTS;
  head->cmsg_len = CMSG_LEN(sizeof fd);
  std::memcpy(CMSG_DATA(head), &fd, sizeof fd);
  EXPECT_EQ(::sendmsg(fd, &message, 0), static_cast<ssize_t>(text.size()));
}

// Every test over TCP and over Unix sockets (on both sides), with one worker and with several.
class RelayTest : public ::testing::TestWithParam<Setting> {
 protected:
  RelayTest()
      : plane_({.threads = GetParam().threads, .service = {}, .listen = place("front")}),
        backend_(place("back")) {
    plane_.route(backend_.address());
  }
  SocketAddress place(const std::string& name) {
    return GetParam().kind == Kind::kTcp ? SocketAddress::loopback(0) : path_.address(name);
  }
  bool tcp() const { return GetParam().kind == Kind::kTcp; }
  bool all_closed() {
    return plane_.wait([&] { return plane_.counts().active == 0; });
  }

  SocketPath path_;
  Plane plane_;
  Listening backend_;
};

INSTANTIATE_TEST_SUITE_P(Each, RelayTest,
                         ::testing::Values(Setting{1, Kind::kTcp}, Setting{3, Kind::kTcp},
                                           Setting{1, Kind::kUnix}, Setting{3, Kind::kUnix}),
                         setting_name);

TEST_P(RelayTest, BytesGoBothWaysAndBothEndsPass) {
  Peer client = plane_.client();
  client.send("question");
  Peer server = backend_.accept();
  EXPECT_EQ(server.receive(8), "question");
  server.send("answer");
  EXPECT_EQ(client.receive(6), "answer");
  client.finish();
  EXPECT_EQ(server.receive_all().error, 0);
  server.close();
  EXPECT_EQ(client.receive_all().error, 0);
  EXPECT_TRUE(all_closed());
  const ServiceCounts counts = plane_.counts();
  EXPECT_EQ(counts.accepted, 1U);
  EXPECT_EQ(counts.bytes_in, 8U);
  EXPECT_EQ(counts.bytes_out, 6U);
  EXPECT_EQ(counts.held_total, 0U);
}

TEST_P(RelayTest, TheServerMaySpeakFirst) {
  Peer client = plane_.client();
  Peer server = backend_.accept();
  server.send("220 ready");
  EXPECT_EQ(client.receive(9), "220 ready");
}

TEST_P(RelayTest, HalfCloseByTheClientLeavesTheAnswerOpen) {
  Peer client = plane_.client();
  client.send("all I have");
  client.finish();
  Peer server = backend_.accept();
  EXPECT_EQ(server.receive_all().bytes, "all I have");
  const std::string answer = pattern(3'000'000, 1);
  std::jthread writer([&] {
    server.send(answer);
    server.close();
  });
  const Received received = client.receive_all();
  EXPECT_EQ(received.error, 0);
  EXPECT_TRUE(received.bytes == answer);
  EXPECT_TRUE(all_closed());
}

TEST_P(RelayTest, HalfCloseByTheBackendLeavesTheRequestOpen) {
  Peer client = plane_.client();
  Peer server = backend_.accept();
  server.send("early");
  server.finish();
  EXPECT_EQ(client.receive_all().bytes, "early");
  const std::string upload = pattern(3'000'000, 2);
  std::jthread writer([&] {
    client.send(upload);
    client.finish();
  });
  EXPECT_TRUE(server.receive_all().bytes == upload);
  EXPECT_TRUE(all_closed());
}

TEST_P(RelayTest, LargeTransfersCrossEachOther) {
  const std::string up = pattern(24'000'000, 3);
  const std::string down = pattern(24'000'000, 4);
  Peer client = plane_.client();
  Peer server = backend_.accept();
  std::jthread sends_up([&] {
    client.send(up);
    client.finish();
  });
  std::jthread sends_down([&] {
    server.send(down);
    server.finish();
  });
  Received at_server;
  std::jthread reads_up([&] { at_server = server.receive_all(); });
  const Received at_client = client.receive_all();
  reads_up.join();
  EXPECT_TRUE(at_client.bytes == down) << at_client.bytes.size() << " " << at_client.error;
  EXPECT_TRUE(at_server.bytes == up) << at_server.bytes.size() << " " << at_server.error;
  EXPECT_TRUE(all_closed());
  EXPECT_EQ(plane_.counts().bytes_in, up.size());
  EXPECT_EQ(plane_.counts().bytes_out, down.size());
}

TEST_P(RelayTest, RandomSizesAreExchangedExactly) {
  std::mt19937 random(42);
  Peer client = plane_.client();
  Peer server = backend_.accept();
  const auto size = [&] {
    // Around the sizes at which something changes: the buffer of 64 KiB, and one byte.
    switch (random() % 4) {
      case 0:
        return random() % 4 + 1;
      case 1:
        return 65536 - 2 + random() % 5;
      case 2:
        return random() % 2000 + 1;
      default:
        return random() % 90000 + 1;
    }
  };
  for (unsigned i = 0; i < 1000 && !HasFailure(); ++i) {
    const std::string there = pattern(size(), i);
    client.send(there);
    ASSERT_TRUE(server.receive(there.size()) == there) << "exchange " << i;
    const std::string back = pattern(size(), i + 7);
    server.send(back);
    ASSERT_TRUE(client.receive(back.size()) == back) << "exchange " << i;
  }
}

// A client that does not read must cost one chunk, not its whole download.
TEST_P(RelayTest, BackPressureReachesTheBackend) {
  Peer client = plane_.client();
  Peer server = backend_.accept();
  const timeval short_patience{.tv_sec = 1, .tv_usec = 0};
  ::setsockopt(server.fd(), SOL_SOCKET, SO_SNDTIMEO, &short_patience, sizeof short_patience);
  const std::string block = pattern(1 << 20, 5);
  std::size_t taken = 0;
  for (;;) {
    const std::size_t at = taken % block.size();
    const ssize_t sent = ::send(server.fd(), block.data() + at, block.size() - at, MSG_NOSIGNAL);
    if (sent <= 0) break;
    taken += static_cast<std::size_t>(sent);
    ASSERT_LT(taken, 100U << 20) << "the backend was never made to wait";
  }
  server.finish();
  const Received received = client.receive_all();
  EXPECT_EQ(received.error, 0);
  ASSERT_EQ(received.bytes.size(), taken);
  for (std::size_t at = 0; at < taken; ++at) ASSERT_EQ(received.bytes[at], block[at % block.size()]) << at;
}

TEST_P(RelayTest, ManyClientsAtOnce) {
  EchoServer echo(place("echo"));
  plane_.route(echo.address());
  std::vector<std::jthread> threads;
  for (unsigned t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      for (unsigned i = 0; i < 100; ++i) {
        Peer client = plane_.client();
        const std::string bytes = pattern(1 + (t * 1000 + i) % 3000, i);
        client.send(bytes);
        EXPECT_TRUE(client.receive(bytes.size()) == bytes);
        client.finish();
        EXPECT_EQ(client.receive_all().error, 0);
      }
    });
  }
  threads.clear();
  EXPECT_TRUE(all_closed());
  EXPECT_EQ(plane_.counts().accepted, 400U);
}

// What was sent before the reset arrives, and the reset after it.
TEST_P(RelayTest, ResetByTheClientReachesTheBackend) {
  Peer client = plane_.client();
  const std::string sent = pattern(40'000, 6);
  client.send(sent);
  Peer server = backend_.accept();
  EXPECT_TRUE(server.receive(10) == sent.substr(0, 10));
  client.reset();
  const Received rest = server.receive_all();
  EXPECT_TRUE(rest.bytes == sent.substr(10)) << rest.bytes.size();
  EXPECT_TRUE(!tcp() || rest.error == ECONNRESET) << rest.error;
  server.close();  // a Unix socket has no RST: the backend was told the end
  EXPECT_TRUE(all_closed());
}

TEST_P(RelayTest, ResetByTheBackendReachesTheClient) {
  Peer client = plane_.client();
  client.send("x");
  Peer server = backend_.accept();
  EXPECT_EQ(server.receive(1), "x");
  const std::string answer = pattern(40'000, 7);
  server.send(answer);
  EXPECT_TRUE(client.receive(10) == answer.substr(0, 10));
  server.reset();
  const Received rest = client.receive_all();
  EXPECT_TRUE(rest.bytes == answer.substr(10)) << rest.bytes.size();
  EXPECT_TRUE(!tcp() || rest.error == ECONNRESET) << rest.error;
  client.close();
  EXPECT_TRUE(all_closed());
}

// The backend answers without reading the request, and closes: its kernel sends RST. The answer must arrive
// whole.
TEST_P(RelayTest, AnAnswerIsWholeThoughItsRequestWasNotRead) {
  for (unsigned round = 0; round < 50; ++round) {
    Peer client = plane_.client();
    client.send(pattern(100'000, round));
    Peer server = backend_.accept();
    const std::string answer = pattern(20'000, round);
    server.send(answer);
    // As soon as the answer has left the backend's kernel, it goes.
    if (tcp()) {
      int queued = 1;
      while (queued != 0) ::ioctl(server.fd(), TIOCOUTQ, &queued);
    }
    server.close();
    EXPECT_TRUE(client.receive_all().bytes == answer) << "round " << round;
  }
  EXPECT_TRUE(all_closed());
}

// The backend has ended its answer with FIN and is gone; a client that still sends must not be reset for it.
TEST_P(RelayTest, AClientThatStillSendsAfterTheAnswerIsLetFinish) {
  Peer client = plane_.client();
  client.send("head");
  Peer server = backend_.accept();
  EXPECT_EQ(server.receive(4), "head");
  server.send("413 too large");
  server.close();  // everything was read: a FIN, not a RST; the next bytes are answered by RST
  EXPECT_EQ(client.receive(13), "413 too large");
  for (int i = 0; i < 64; ++i) EXPECT_TRUE(client.try_send(pattern(65'536, 8))) << i;
  client.finish();
  const Received end = client.receive_all();
  EXPECT_EQ(end.error, 0) << errno_text(end.error);
  EXPECT_TRUE(all_closed());
}

// A client that closed both ways, told only by its RST, must not keep a backend busy.
TEST_P(RelayTest, AClientThatIsGoneEndsItsBackendConnection) {
  Peer client = plane_.client();
  client.send("x");
  Peer server = backend_.accept();
  EXPECT_EQ(server.receive(1), "x");
  client.close();
  while (server.try_send(pattern(1000, 9))) {
  }
  EXPECT_TRUE(all_closed());
}

TEST_P(RelayTest, UrgentDataDoesNotStallWhatFollows) {
  if (!tcp()) GTEST_SKIP() << "TCP only";
  Peer client = plane_.client();
  Peer server = backend_.accept();
  client.send("a");
  EXPECT_EQ(server.receive(1), "a");
  for (int i = 0; i < 200; ++i) {
    client.send("before");
    EXPECT_EQ(::send(client.fd(), "!", 1, MSG_OOB), 1);
    client.send("after");
    EXPECT_EQ(server.receive(11), "beforeafter");
  }
}

// The kernel reads no further than to a message with descriptors, which are dropped here: what follows it is
// not to be waited for, nor is it beyond the end.
TEST_P(RelayTest, DescriptorsPassedAlongDoNotHideWhatFollows) {
  if (tcp()) GTEST_SKIP() << "Unix only";
  for (const bool ends : {false, true}) {
    plane_.hold();
    plane_.list();  // every worker holds
    Peer client = plane_.client();
    ASSERT_TRUE(plane_.wait([&] { return plane_.counts().held == 1; }));
    send_with_descriptor(client.fd(), "a");
    client.send("b");
    if (ends) client.finish();
    plane_.list();  // the worker has been told
    plane_.route(backend_.address());
    Peer server = backend_.accept();
    EXPECT_EQ(server.receive(2), "ab");
    if (ends) {
      EXPECT_EQ(server.receive_all().error, 0);
    }
  }
}

TEST_P(RelayTest, DestructionClosesLiveConnections) {
  Peer client = plane_.client();
  client.send("x");
  Peer server = backend_.accept();
  EXPECT_EQ(server.receive(1), "x");
  plane_.data.reset();
  EXPECT_EQ(client.receive_all().bytes, "");
  EXPECT_EQ(server.receive_all().bytes, "");
}

// A client that was reset before anybody looked at it: whether it reaches an instance or not, the instance is
// not told that it ended well.
TEST(Reset, OfAClientStillInTheQueueIsNoEnd) {
  for (const bool wrote : {false, true}) {
    config::Service service;
    service.hold.max_connections = 0;  // it stays in the kernel's queue until there is a route
    Plane plane({.threads = 1, .service = service});
    Listening backend;
    Peer client = plane.client();
    if (wrote) client.send("hello");
    client.reset();
    plane.route(backend.address());
    if (!backend.has_client(Duration(wrote ? 20'000 : 500))) continue;
    Peer server = backend.accept();
    EXPECT_EQ(server.receive_all().error, ECONNRESET);
    EXPECT_TRUE(plane.wait([&] { return plane.counts().active == 0; }));
  }
}

}  // namespace
}  // namespace relayd::net::test
