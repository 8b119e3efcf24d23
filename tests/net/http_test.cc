// Requests and responses of every form, byte for byte, and the next one on the same connections.
#include <thread>

#include "tests/net/http_support.h"

namespace relayd::net::test {
namespace {

class Http : public ::testing::TestWithParam<config::Protocol> {
 protected:
  Http() : plane(http(1, GetParam())), client(plane.client()) { plane.route(backend.address()); }

  // The request is given to a backend connection.
  Peer ask(std::string_view request) {
    client.send(request);
    Peer server = backend.accept();
    expect(server, request);
    return server;
  }
  void answer(Peer& server, std::string_view response) {
    server.send(response);
    expect(client, response);
  }
  void goes_on(Peer& server) { exchange(client, server, kPost, kOk); }

  Plane plane;
  Listening backend;
  Peer client;
};

INSTANTIATE_TEST_SUITE_P(Each, Http, ::testing::Values(config::Protocol::kHttp, config::Protocol::kAuto),
                         [](const auto& tested) {
                           return tested.param == config::Protocol::kHttp ? "http" : "auto";
                         });

TEST_P(Http, PipelinedRequestsAreHandedOnOneAtATime) {
  client.send(std::string(kGet) + std::string(kPost) + std::string(kGet));
  Peer server = backend.accept();
  for (const std::string_view request : {kGet, kPost, kGet}) {
    expect(server, request);
    EXPECT_TRUE(server.nothing_arrives(Duration(20)));
    answer(server, kOk);
  }
  EXPECT_TRUE(plane.wait([&] { return plane.counts().requests == 3; }));
  goes_on(server);
}

TEST_P(Http, AStreamOfPipelinedRequests) {
  std::string all;
  for (int i = 0; i < 3000; ++i) all += "GET /" + std::to_string(i) + " HTTP/1.1\r\nHost: a\r\n\r\n";
  std::thread writer([&] { client.send(all); });
  Peer server = backend.accept();
  for (int i = 0; i < 3000; ++i) {
    const std::string wanted = "GET /" + std::to_string(i) + " HTTP/1.1\r\nHost: a\r\n\r\n";
    ASSERT_EQ(server.receive(wanted.size()), wanted);
    server.send(kOk);
  }
  for (int i = 0; i < 3000; ++i) ASSERT_EQ(client.receive(kOk.size()), kOk);
  writer.join();
}

TEST_P(Http, ResponsesWithoutABody) {
  Peer server = ask("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n");
  answer(server, "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n");
  for (const std::string_view response :
       {"HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"}) {
    exchange(client, server, kGet, response);
  }
  goes_on(server);
}

TEST_P(Http, InterimResponses) {
  Peer server = ask(kGet);
  answer(server, "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n");
  const std::string two = "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n";
  server.send(two + "HTTP/1.1 2");  // a head is passed on whole
  expect(client, two);
  server.send("00 OK\r\nContent-Length: 2\r\n\r\nok");
  expect(client, kOk);
  exchange(client, server, kGet, "HTTP/1.1 103 Early Hints\r\n\r\n" + std::string(kOk));
  goes_on(server);
}

TEST_P(Http, ExpectContinue) {
  const std::string head = "PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n";
  Peer server = ask(head);
  answer(server, "HTTP/1.1 100 Continue\r\n\r\n");
  client.send("body");
  expect(server, "body");
  answer(server, kOk);
  // Refused, and the client does without the body: its connection ends, as it must.
  client.send(head);
  expect(server, head);
  server.send("HTTP/1.1 417 Expectation Failed\r\nConnection: close\r\nContent-Length: 0\r\n\r\n");
  EXPECT_TRUE(client.receive_all().bytes.starts_with("HTTP/1.1 417 "));
}

TEST_P(Http, AnEarlyResponseWhileTheBodyFlows) {
  const std::string body = pattern(100'000, 1);
  const std::string head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n";
  Peer server = ask(head);
  client.send(body.substr(0, 1000));
  expect(server, body.substr(0, 1000));
  answer(server, kOk);
  client.send(body.substr(1000));
  EXPECT_EQ(server.receive(body.size() - 1000), body.substr(1000));
  goes_on(server);
}

// The backend answers, and closes with the body unread, which resets its connection.
TEST_P(Http, AnEarlyResponseOfABackendThatCloses) {
  Peer server = ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n");
  const std::string response = "HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 3\r\n\r\nno!";
  server.send(response);
  server.finish();
  std::thread writer([&] { client.try_send(pattern(3'000'000, 1)); });
  const Received got = client.receive_all();
  EXPECT_EQ(got.bytes, response);
  EXPECT_EQ(got.error, 0);
  writer.join();
  EXPECT_TRUE(plane.wait([&] { return plane.counts().requests == 1; }));
}

// The app answers a kept client early, and its connection breaks while the body still flows.
TEST_P(Http, AnEarlyResponseOfABackendThatIsReset) {
  Peer server = ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3000000\r\n\r\n");
  answer(server, kOk);
  server.reset();
  std::thread writer([&] { client.try_send(pattern(3'000'000, 1)); });
  EXPECT_EQ(client.receive_all().bytes, "");
  writer.join();
  client.close();
  EXPECT_TRUE(plane.wait([&] { return plane.counts().active == 0; }));
}

TEST_P(Http, ChunkedWithTrailersBothWays) {
  const std::string body = "5;a=\"b\"\r\nhello\r\n1\r\n!\r\n0\r\nX-Sum: 1\r\n\r\n";
  const std::string request = "PUT / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n" + body;
  const std::string response = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body;
  Peer server = ask(request);
  answer(server, response);
  client.send(request + std::string(kGet));  // and one behind it
  expect(server, request);
  EXPECT_TRUE(server.nothing_arrives(Duration(20)));
  answer(server, response);
  expect(server, kGet);
  answer(server, kOk);
  for (const char& byte : request) {
    client.send({&byte, 1});
    if (&byte - request.data() > 60) expect(server, request.substr(&byte - request.data(), 1));
    if (&byte - request.data() == 60) expect(server, request.substr(0, 61));
  }
  for (const char& byte : response) server.send({&byte, 1});
  expect(client, response);
  goes_on(server);
}

TEST_P(Http, UntilTheBackendCloses) {
  const std::string head = "HTTP/1.1 200 OK\r\n\r\n";
  const std::string body = pattern(3'000'000, 1);
  Peer server = ask(kGet);
  std::thread writer([&] {
    server.send(head + body);
    server.close();
  });
  EXPECT_TRUE(client.receive_all().bytes == head + body);
  writer.join();
  EXPECT_TRUE(plane.wait([&] { return plane.counts().requests == 1; }));
}

// Its end alone tells that it was whole: it must not look whole when it was not.
TEST_P(Http, UntilTheBackendIsReset) {
  Peer server = ask(kGet);
  answer(server, "HTTP/1.1 200 OK\r\n\r\nhalf");
  server.reset();
  EXPECT_EQ(client.receive_all().error, ECONNRESET);
}

std::string chunked(std::string_view body, std::size_t size) {
  std::string text;
  while (!body.empty()) {
    const std::string_view piece = body.substr(0, size);
    char line[32];
    std::snprintf(line, sizeof line, "%zx\r\n", piece.size());
    text.append(line).append(piece).append("\r\n");
    body.remove_prefix(piece.size());
  }
  return text + "0\r\n\r\n";
}

TEST_P(Http, LargeBodiesBothWays) {
  const std::string body = pattern(6'000'000, 1);
  const std::string length = "Content-Length: 6000000\r\n\r\n" + body;
  const std::string in_chunks = "Transfer-Encoding: chunked\r\n\r\n" + chunked(body, 300'000);
  const std::string in_small_chunks = "Transfer-Encoding: chunked\r\n\r\n" + chunked(body, 999);
  Peer first = ask(kGet);
  answer(first, kOk);
  for (const std::string& framed : {length, in_chunks, in_small_chunks}) {
    const std::string request = "PUT / HTTP/1.1\r\nHost: a\r\n" + framed;
    const std::string response = "HTTP/1.1 200 OK\r\n" + framed;
    // The next request follows the body without a pause.
    Peer uploader = plane.client();
    std::thread writer([&] { uploader.send(request + std::string(kGet)); });
    Peer server = backend.accept();
    const bool whole = server.receive(request.size()) == request;
    EXPECT_TRUE(server.nothing_arrives(Duration(20)));
    writer.join();
    ASSERT_TRUE(whole);
    std::thread answerer([&] { server.send(response); });
    const bool answered = uploader.receive(response.size()) == response;
    answerer.join();
    ASSERT_TRUE(answered);
    expect(server, kGet);
    server.send(kOk);
    expect(uploader, kOk);
  }
}

// The last bytes of a body may stand in a pipe when the backend, which is slow, has answered already.
TEST_P(Http, AnEarlyResponseWhileTheEndOfTheBodyIsInAPipe) {
  Peer first = ask(kGet);
  answer(first, kOk);
  for (int round = 0; round < 24; ++round) {
    const bool early = round % 2 == 0;
    const std::size_t size = 5'000'000 + static_cast<std::size_t>(round) * 77'777;
    const std::string body = pattern(size, static_cast<unsigned>(round));
    const std::string head =
        "PUT /a HTTP/1.1\r\nHost: a\r\nContent-Length: " + std::to_string(size) + "\r\n\r\n";
    Peer uploader = plane.client();
    std::thread sender([&] { uploader.send(head + body); });
    Peer server = backend.accept();
    expect(server, head);
    if (early) {
      server.send(kOk);
      expect(uploader, kOk);
    }
    std::string got;
    while (got.size() < size) {
      const std::string some = server.receive(std::min<std::size_t>(size - got.size(), 100'000));
      if (some.empty()) break;
      got += some;
    }
    sender.join();
    ASSERT_EQ(got.size(), size) << round;
    ASSERT_TRUE(got == body) << round;
    if (!early) {
      server.send(kOk);
      expect(uploader, kOk);
    }
    exchange(uploader, server, kGet, kOk);
  }
}

TEST_P(Http, AClientThatEndsAfterItsRequestGetsItsAnswer) {
  client.send(kPost);
  client.finish();
  Peer server = backend.accept();
  expect(server, kPost);
  server.send(kOk);
  const Received got = client.receive_all();
  EXPECT_EQ(got.bytes, kOk);
  EXPECT_EQ(got.error, 0);
  EXPECT_EQ(server.receive_all().error, 0);
}

// It may have gone for good: its backend is told, as it would be without relayd, and need not go on.
TEST_P(Http, AClientThatEndsWhileItWaits) {
  Peer server = ask(kGet);
  client.close();
  EXPECT_EQ(server.receive_all().bytes, "");
  server.send(kOk);
  EXPECT_TRUE(plane.wait([&] { return plane.counts().active == 0; }));
  EXPECT_EQ(plane.counts().requests, 1U);
}

// An app that is at a request for long holds up nobody else.
TEST_P(Http, OneRequestWithoutAnAnswer) {
  Peer server = ask(kGet);
  for (int i = 0; i < 20; ++i) {
    Peer other = plane.client();
    first_exchange(other, backend);
  }
  answer(server, kOk);
}

TEST_P(Http, AClientThatEndsWithinItsBody) {
  Peer server = ask("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n12345");
  client.finish();
  EXPECT_EQ(server.receive_all().bytes, "");
  server.send("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
  EXPECT_TRUE(client.receive_all().bytes.starts_with("HTTP/1.1 400 Bad Request\r\nContent-Length: 0"));
}

TEST_P(Http, AClientThatIsResetResetsItsBackend) {
  Peer server = ask(kGet);
  client.reset();
  EXPECT_EQ(server.receive_all().error, ECONNRESET);
}

TEST_P(Http, OldVersionWithoutKeepAlive) {
  Peer server = ask("GET / HTTP/1.0\r\n\r\n");
  server.send(kOk);
  EXPECT_EQ(client.receive_all().bytes, kOk);
  EXPECT_EQ(server.receive_all().error, 0);
}

TEST_P(Http, OldVersionWithKeepAlive) {
  const std::string request = "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n";
  const std::string response = "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n";
  Peer server = ask(request);
  answer(server, response);
  exchange(client, server, request, response);
}

TEST_P(Http, CloseOnEitherSide) {
  Peer server = ask("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
  server.send(kOk);
  EXPECT_EQ(client.receive_all().bytes, kOk);
  Peer other = plane.client();
  other.send(kGet);
  Peer closing = backend.accept();
  expect(closing, kGet);
  const std::string response = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n";
  closing.send(response);
  EXPECT_EQ(other.receive_all().bytes, response);
}

TEST_P(Http, AnUpgradedConnectionIsATunnel) {
  Peer server = ask("GET /ws HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
  const std::string switching =
      "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n";
  answer(server, switching + "\x81\x02hi");
  client.send("not HTTP \r\n\r\n at all");
  expect(server, "not HTTP \r\n\r\n at all");
  plane.hold();
  plane.data->drain(Plane::kService, 1, -1, 7);
  for (int i = 0; i < 3; ++i) {
    client.send(kGet);
    expect(server, kGet);
    answer(server, "whatever");
  }
  EXPECT_TRUE(plane.drained.empty());
  plane.data->cut(Plane::kService, 1, -1, ConnectionKind::kPlain);
  client.send("x");
  expect(server, "x");
  plane.data->cut(Plane::kService, 1, -1, ConnectionKind::kTunnels);
  EXPECT_EQ(client.receive_all().bytes, "");
  EXPECT_TRUE(plane.wait([&] { return plane.drained.size() == 1; }));
  EXPECT_EQ(plane.counts().requests, 1U);
  EXPECT_EQ(plane.counts().cut, 1U);
}

TEST_P(Http, ConnectIsATunnelWithTheBytesBehindItsHead) {
  const std::string request = "CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n";
  client.send(request + "hello");
  Peer server = backend.accept();
  expect(server, request);
  EXPECT_TRUE(server.nothing_arrives(Duration(20)));
  server.send("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nworld");  // 2xx has no length here
  expect(server, "hello");
  expect(client, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nworld");
  client.send("more");
  expect(server, "more");
  client.finish();
  EXPECT_EQ(server.receive_all().bytes, "");
  server.send("rest");
  server.close();
  EXPECT_EQ(client.receive_all().bytes, "rest");
}

TEST_P(Http, ARefusedConnectIsARequestAsAnyOther) {
  Peer server = ask("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n");
  answer(server, "HTTP/1.1 405 No\r\nContent-Length: 2\r\n\r\nno");
  goes_on(server);
}

}  // namespace
}  // namespace relayd::net::test
