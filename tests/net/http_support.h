#pragma once

#include <string>
#include <string_view>
#include <utility>

#include "tests/net/support.h"

// Clients and instances that speak HTTP, said as the bytes that they are.
namespace relayd::net::test {

inline constexpr std::string_view kGet = "GET /a HTTP/1.1\r\nHost: a\r\n\r\n";
inline constexpr std::string_view kPost = "POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nbody";
inline constexpr std::string_view kOk = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

inline constexpr std::string_view kLastOk =
    "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok";

inline Plane::Options http(unsigned threads = 1, config::Protocol protocol = config::Protocol::kHttp) {
  Plane::Options options{.threads = threads, .service = {}};
  options.service.protocol = protocol;
  return options;
}

inline std::string with_length(std::string_view body) {
  return "HTTP/1.1 200 OK\r\nContent-Length: " + std::to_string(body.size()) + "\r\n\r\n" + std::string(body);
}

// These arrive next, and nothing is asked of what follows.
inline void expect(Peer& peer, std::string_view bytes) { EXPECT_EQ(peer.receive(bytes.size()), bytes); }

inline void exchange(Peer& client, Peer& server, std::string_view request, std::string_view response) {
  client.send(request);
  expect(server, request);
  server.send(response);
  expect(client, response);
}

// A first exchange, on a backend connection of its own.
inline Peer first_exchange(Peer& client, Listening& backend, std::string_view request = kGet) {
  client.send(request);
  Peer server = backend.accept();
  expect(server, request);
  server.send(kOk);
  expect(client, kOk);
  return server;
}

// The client gets an answer of relayd's own, and then the end of its connection.
inline void expect_answer(Peer& client, int status) {
  const Received got = client.receive_all();
  EXPECT_EQ(got.error, 0);
  EXPECT_TRUE(got.bytes.starts_with("HTTP/1.1 " + std::to_string(status) + " ")) << got.bytes;
  EXPECT_NE(got.bytes.find("\r\nConnection: close\r\n"), std::string::npos) << got.bytes;
}

inline bool state_is(Plane& plane, std::string_view state) {
  return plane.wait([&] {
    const auto all = plane.list();
    return all.size() == 1 && all[0].state == state;
  });
}

}  // namespace relayd::net::test
