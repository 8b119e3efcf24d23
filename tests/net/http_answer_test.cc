// Answers of relayd's own, and what becomes of the connection behind them.
#include <sys/socket.h>

#include <thread>

#include "tests/net/http_support.h"

namespace relayd::net::test {
namespace {

// Nothing of what cannot be framed reaches the backend.
TEST(HttpAnswer, FramingInDoubt) {
  const std::pair<int, std::string> doubts[] = {
      {400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"},
      {400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nbody"},
      {400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4x\r\n\r\nbody"},
      {400, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +4\r\n\r\nbody"},
      {400, "GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n"},
      {400, "GET / HTTP/1.1\r\nHost: a\nX: a\r\n\r\n"},
      {400, "GET / HTTP/1.1\r\nHost : a\r\n\r\n"},
      {400, std::string("GET / HTTP/1.1\r\nHost: a\r\nX: ") + '\0' + "\r\n\r\n"},
      {400, "GET / HTTP/1.1\r\nHost: a\r\nX: a\rb\r\n\r\n"},
      {400, "GET / HTTP/1.1\r\n\r\n"},
      {400, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n"},
      {501, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n"},
  };
  Plane plane(http());
  Listening backend;
  plane.route(backend.address());
  std::uint64_t answered = 0;
  for (const auto& [status, request] : doubts) {
    SCOPED_TRACE(request);
    Peer client = plane.client();
    client.send(request);
    const Received got = client.receive_all();
    EXPECT_EQ(got.error, 0);
    EXPECT_TRUE(got.bytes.starts_with("HTTP/1.1 ")) << got.bytes;
    EXPECT_EQ(got.bytes.substr(9, 3), std::to_string(status));
    ++answered;
  }
  EXPECT_FALSE(backend.has_client(Duration(20)));
  EXPECT_EQ(plane.counts().answered, answered);
  EXPECT_EQ(plane.counts().requests, 0U);
}

// What came before it is answered as ever.
TEST(HttpAnswer, BehindAGoodRequest) {
  Plane plane(http());
  Listening backend;
  plane.route(backend.address());
  Peer client = plane.client();
  client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.1\r\nHost : a\r\n\r\n");
  Peer server = backend.accept();
  expect(server, "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
  server.send("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n");
  const Received got = client.receive_all();
  EXPECT_TRUE(got.bytes.starts_with("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nHTTP/1.1 400 "))
      << got.bytes;
  EXPECT_TRUE(got.bytes.ends_with("\n")) << got.bytes;  // with its body: this one was no HEAD
  EXPECT_EQ(server.receive_all().bytes, "");
}

// A fault within a body that is under way.
TEST(HttpAnswer, BadChunkBehindGoodOnes) {
  Plane plane(http());
  Listening backend;
  plane.route(backend.address());
  Peer client = plane.client();
  const std::string begun = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n";
  client.send(begun);
  Peer server = backend.accept();
  expect(server, begun);
  client.send("4\r\nbodyX");
  expect_answer(client, 400);
  const std::string rest = server.receive_all().bytes;
  EXPECT_EQ(rest, std::string("4\r\nbody").substr(0, rest.size()));
}

TEST(HttpAnswer, TooLargeAHead) {
  Plane plane(http());
  Listening backend;
  plane.route(backend.address());
  for (const bool in_lines : {false, true}) {
    Peer client = plane.client();
    std::string head = "GET / HTTP/1.1\r\nHost: a\r\n";
    while (head.size() < 70'000) head += in_lines ? "X-Line: " + std::string(100, 'x') + "\r\n" : "x";
    std::thread writer([&] { client.try_send(head); });
    expect_answer(client, 431);
    writer.join();
  }
  EXPECT_FALSE(backend.has_client(Duration(20)));
}

TEST(HttpAnswer, AHeadOfAlmostTheLimit) {
  Plane plane(http());
  Listening backend;
  plane.route(backend.address());
  Peer client = plane.client();
  std::string head = "GET / HTTP/1.1\r\nHost: a\r\n";
  while (head.size() < 65'000) head += "X-Line: " + std::string(100, 'x') + "\r\n";
  head += "\r\n";
  std::thread writer([&] { client.send(head + std::string(kGet)); });
  Peer server = backend.accept();
  EXPECT_TRUE(server.receive(head.size()) == head);
  writer.join();
  server.send(kOk);
  expect(client, kOk);
  expect(server, kGet);
}

// The client reads the whole answer and then the end, however much it goes on to send.
TEST(HttpAnswer, IsReadByAClientThatGoesOnSending) {
  Plane plane(http());
  Listening backend;
  plane.route(backend.address());
  Peer client = plane.client();
  client.send("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\n");
  std::thread writer([&] { client.try_send(pattern(8'000'000, 1)); });
  expect_answer(client, 400);
  writer.join();
  client.close();
  EXPECT_TRUE(plane.wait([&] { return plane.counts().active == 0; }));
}

TEST(HttpAnswer, WhoeverWaitsTooLongIsTold) {
  for (const auto protocol : {config::Protocol::kHttp, config::Protocol::kAuto}) {
    auto options = http(1, protocol);
    options.service.hold.timeout = Duration(100);
    Plane plane(options);
    for (const bool head : {false, true}) {
      Peer client = plane.client();
      client.send(head ? "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n" : std::string(kGet));
      const Received got = client.receive_all();
      EXPECT_EQ(got.error, 0);
      EXPECT_TRUE(got.bytes.starts_with("HTTP/1.1 503 ")) << got.bytes;
      EXPECT_NE(got.bytes.find("\r\nRetry-After: "), std::string::npos) << got.bytes;
      EXPECT_EQ(got.bytes.ends_with("\r\n\r\n"), head) << got.bytes;
    }
    EXPECT_EQ(plane.counts().hold_timeouts, 2U);
    EXPECT_EQ(plane.counts().answered, 2U);
  }
}

// A kept client, whose request has been read.
TEST(HttpAnswer, AKeptClientThatWaitsTooLongIsTold) {
  auto options = http();
  options.service.hold.timeout = Duration(100);
  Plane plane(options);
  Listening backend;
  plane.route(backend.address());
  Peer client = plane.client();
  Peer server = first_exchange(client, backend);
  plane.hold();
  plane.data->drain(Plane::kService, 1, -1, 7);
  ASSERT_TRUE(plane.wait([&] { return plane.drained.size() == 1; }));
  client.send("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
  const Received got = client.receive_all();
  EXPECT_TRUE(got.bytes.starts_with("HTTP/1.1 503 ")) << got.bytes;
  EXPECT_TRUE(got.bytes.ends_with("\r\n\r\n")) << got.bytes;
}

TEST(HttpAnswer, NoInstanceCouldBeConnected) {
  auto options = http();
  options.service.hold.timeout = Duration(300);
  Plane plane(options);
  plane.route(dead_address());
  Peer client = plane.client();
  client.send(kGet);
  expect_answer(client, 502);
}

TEST(HttpAnswer, AnAppThatDoesNotAnswer) {
  auto options = http();
  options.service.limits.idle_timeout = Duration(200);
  Plane plane(options);
  Listening backend;
  plane.route(backend.address());
  Peer client = plane.client();
  client.send(kPost);
  Peer server = backend.accept();
  expect(server, kPost);
  expect_answer(client, 504);
  EXPECT_NE(server.receive_all().error, EAGAIN);
}

TEST(HttpAnswer, AResponseThatCannotBeFramed) {
  Plane plane(http());
  Listening backend;
  plane.route(backend.address());
  for (const std::string_view response :
       {"garbage\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n"}) {
    Peer client = plane.client();
    client.send(kGet);
    Peer server = backend.accept();
    expect(server, kGet);
    server.send(response);
    expect_answer(client, 502);
  }
}

// A head that comes slowly keeps no backend from others.
TEST(HttpAnswer, ASlowHeadGivesItsBackendFree) {
  Plane plane(http());
  Listening backend;
  plane.route(backend.address());
  Peer client = plane.client();
  Peer server = first_exchange(client, backend);
  client.send(kGet.substr(0, 10));
  EXPECT_EQ(server.receive_all().bytes, "");
  EXPECT_TRUE(state_is(plane, "reading"));
  client.send(kGet.substr(10));
  Peer next = backend.accept();
  expect(next, kGet);
}

TEST(HttpForwarded, IsAddedOrAppendedToEachRequest) {
  auto options = http();
  options.service.forwarded_headers = true;
  Plane plane(options);
  Listening backend;
  plane.route(backend.address());
  Peer client = plane.client();
  client.send(kPost);
  Peer server = backend.accept();
  expect(server,
         "POST /a HTTP/1.1\r\nX-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\nHost: a\r\n"
         "Content-Length: 4\r\n\r\nbody");
  server.send(kOk);
  expect(client, kOk);
  client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 10.1.1.1\r\nX-Forwarded-Proto: https\r\n\r\n" +
              std::string(kGet));
  expect(server,
         "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 10.1.1.1, 127.0.0.1\r\n"
         "X-Forwarded-Proto: https\r\n\r\n");
  server.send(kOk);
  expect(client, kOk);
  expect(server,
         "GET /a HTTP/1.1\r\nX-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\nHost: a\r\n\r\n");
}

// CGI and WSGI do not tell '_' from '-'.
TEST(HttpForwarded, ANameThatTheAppTakesForTheSameIsRefused) {
  for (const bool forwarded : {true, false}) {
    for (const std::string name : {"X_Forwarded_For", "x-forwarded_for", "X_FORWARDED-PROTO"}) {
      auto options = http();
      options.service.forwarded_headers = forwarded;
      Plane plane(options);
      Listening backend;
      plane.route(backend.address());
      Peer client = plane.client();
      client.send("GET / HTTP/1.1\r\nHost: a\r\n" + name + ": 10.1.1.1\r\n\r\n");
      if (forwarded) {
        expect_answer(client, 400);
        EXPECT_FALSE(backend.has_client(Duration(0)));
      } else {
        backend.accept();
      }
    }
  }
}

// Who has been reset has no address any more, and does not choose its own.
TEST(HttpForwarded, NotAtAllForAClientThatIsReset) {
  auto options = http();
  options.service.forwarded_headers = true;
  options.service.hold.max_connections = 0;  // it stays in the kernel's queue until there is a route
  Plane plane(options);
  Listening backend;
  {
    Peer client = plane.client();
    client.send("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 10.1.1.1\r\n\r\n");
    client.reset();
  }
  plane.route(backend.address());
  Peer good = plane.client();
  good.send(kGet);
  Peer server = backend.accept();
  expect(server, "GET /a HTTP/1.1\r\nX-Forwarded-For: 127.0.0.1\r\n");
  EXPECT_FALSE(backend.has_client(Duration(20)));
}

// Who may connect to a Unix socket is trusted to name its clients; it has no address itself.
TEST(HttpForwarded, OfAUnixClientThereIsNothingToAdd) {
  const SocketPath path;
  auto options = http();
  options.service.forwarded_headers = true;
  options.listen = path.address("relayd");
  Plane plane(options);
  Listening backend;
  plane.route(backend.address());
  Peer client = plane.client();
  first_exchange(client, backend, "GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For: 10.1.1.1\r\n\r\n");
}

// A line of the client's stays in front of relayd's, whichever way it is written.
TEST(HttpForwarded, StandsBehindAnEmptyLineToo) {
  auto options = http();
  options.service.forwarded_headers = true;
  Plane plane(options);
  Listening backend;
  plane.route(backend.address());
  Peer client = plane.client();
  client.send("GET / HTTP/1.1\r\nX-Forwarded-For: 6.6.6.6\r\nHost: a\r\nX-Forwarded-For:\r\n\r\n");
  Peer server = backend.accept();
  const std::string head = server.receive(std::string("GET / HTTP/1.1\r\nX-Forwarded-Proto: http\r\n"
                                                      "X-Forwarded-For: 6.6.6.6\r\nHost: a\r\n"
                                                      "X-Forwarded-For:127.0.0.1\r\n\r\n")
                                              .size());
  EXPECT_LT(head.find("6.6.6.6"), head.find("127.0.0.1")) << head;
  EXPECT_TRUE(head.ends_with("\r\n\r\n")) << head;
}

// What is read with a head, of its body or of later requests, is no part of the head.
TEST(HttpForwarded, IsAddedInFrontOfWhatFillsTheBuffer) {
  auto options = http();
  options.service.forwarded_headers = true;
  Plane plane(options);
  Listening backend;
  plane.route(backend.address());
  const std::string added = "X-Forwarded-For: 127.0.0.1\r\nX-Forwarded-Proto: http\r\n";
  for (const std::size_t size : {65'400U, 65'500U, 65'536U, 300'000U}) {
    const std::string head = "POST /a HTTP/1.1\r\n";
    const std::string fields = "Host: a\r\nContent-Length: " + std::to_string(size) + "\r\n\r\n";
    const std::string body = pattern(size, 7);
    Peer client = plane.client();
    std::thread sender([&] { client.send(head + fields + body); });
    Peer server = backend.accept();
    EXPECT_EQ(server.receive(head.size() + added.size() + fields.size() + size),
              head + added + fields + body);
    sender.join();
    server.send(kOk);
    expect(client, kOk);
  }
  Peer client = plane.client();
  std::string many;
  constexpr int kRequests = 2500;
  for (int i = 0; i < kRequests; ++i) many += kGet;
  std::thread sender([&] { client.send(many); });
  Peer server = backend.accept();
  for (int i = 0; i < kRequests; ++i) {
    const std::string got = server.receive(kGet.size() + added.size());
    ASSERT_TRUE(got.ends_with("Host: a\r\n\r\n")) << i << ": " << got;
    server.send(kOk);
    ASSERT_EQ(client.receive(kOk.size()), kOk) << i;
  }
  sender.join();
}

// Clients take an end without an answer for leave to send the request again.
TEST(HttpAnswer, ARequestThatIsCutAndMayNotBeSentAgain) {
  Plane plane(http());
  Listening backend;
  plane.route(backend.address());
  Peer client = plane.client();
  client.send(kPost);
  Peer server = backend.accept();
  expect(server, kPost);
  plane.hold();
  plane.data->drain(Plane::kService, 1, -1, 7);
  plane.data->cut(Plane::kService, 1, -1);
  expect_answer(client, 504);
  EXPECT_TRUE(plane.wait([&] { return plane.drained.size() == 1; }));
}

}  // namespace
}  // namespace relayd::net::test
