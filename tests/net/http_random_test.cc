// Kept clients that ask at random, while instances close between requests and generations replace one
// another: every response is that of its request, and none is lost. RELAYD_SEED replays one run, RELAYD_SOAK
// makes it ten times as long.
#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <random>

#include "tests/net/http_support.h"

namespace relayd::net::test {
namespace {

// "Seed: n" of a message names all of it.
std::string framed(std::string_view start, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  const std::size_t size = random() % 10 == 0 ? random() % 400'000 : random() % 3000;
  const std::string body = pattern(size, static_cast<unsigned>(seed));
  std::string text = std::string(start) + "Seed: " + std::to_string(seed) + "\r\n";
  if (random() % 2 == 0) {
    return text + "Content-Length: " + std::to_string(size) + "\r\n\r\n" + body;
  }
  text += "Transfer-Encoding: chunked\r\n\r\n";
  const std::size_t most = 1 + random() % 100'000;
  for (std::size_t at = 0; at < size; at += most) {
    const std::string piece = body.substr(at, most);
    char line[32];
    std::snprintf(line, sizeof line, "%zx\r\n", piece.size());
    text += line + piece + "\r\n";
  }
  return text + "0\r\n" + (random() % 4 == 0 ? "X-Trailer: 1\r\n" : "") + "\r\n";
}

std::string request_of(std::uint64_t seed) {
  const bool plain = seed % 3 == 0;
  const std::string host = " HTTP/1.1\r\nHost: a\r\n";
  if (plain) return "GET /" + std::to_string(seed) + host + "Seed: " + std::to_string(seed) + "\r\n\r\n";
  return framed((seed % 3 == 1 ? "POST /" : "PUT /") + std::to_string(seed) + host, seed);
}

std::string response_of(std::uint64_t seed) { return framed("HTTP/1.1 200 OK\r\n", seed ^ 0x5555); }

// A peer that does not wait: what is to be sent, and what has come.
struct Line {
  Peer peer;
  std::string out;
  std::string in;
  bool ended = false;
  std::uint64_t seed = 0;  // of what is under way, or was last
  std::string wanted = {};

  bool step() {  // true where something moved
    bool moved = false;
    if (!out.empty()) {
      const ssize_t sent = ::send(peer.fd(), out.data(), out.size(), MSG_NOSIGNAL | MSG_DONTWAIT);
      if (sent > 0) out.erase(0, static_cast<std::size_t>(sent));
      moved = sent > 0;
    }
    static char buffer[65536];
    const ssize_t got = ::recv(peer.fd(), buffer, sizeof buffer, MSG_DONTWAIT);
    if (got > 0) in.append(buffer, static_cast<std::size_t>(got));
    ended = ended || got == 0 || (got < 0 && errno != EAGAIN);
    return moved || got > 0;
  }
};

class World {
 public:
  World(std::uint64_t seed, unsigned threads, bool upgrades)
      : random_(seed),
        upgrades_(upgrades),
        plane_(http(threads, seed % 2 == 0 ? config::Protocol::kHttp : config::Protocol::kAuto)) {
    replace();
    for (int i = 0; i < 16; ++i) clients_.push_back({.line = {.peer = plane_.client(), .out = "", .in = ""}});
  }

  // False at the first failure.
  bool play(std::uint64_t requests) {
    TimePoint stalled = monotonic_now() + kPatience;
    std::uint64_t answered = 0;
    while (answered < requests) {
      bool moved = false;
      for (Client& client : clients_) {
        if (client.idle) ask(client);
        moved = client.line.step() || moved;
        if (client.line.in.size() < client.line.wanted.size() && !client.line.ended) continue;
        if (client.line.in != client.line.wanted) {
          ADD_FAILURE() << "request " << client.line.seed << " got " << client.line.in.substr(0, 200);
          return false;
        }
        client.line.in.clear();
        client.idle = true;
        ++answered;
        if (random_() % 100 == 0) replace();
        if (upgrades_ && random_() % 30 == 0) plane_.replace(1 + static_cast<unsigned>(random_() % 3));
      }
      moved = serve() || moved;
      if (moved) stalled = monotonic_now() + kPatience;
      if (monotonic_now() > stalled) {
        ADD_FAILURE() << "nothing moves any more";
        return false;
      }
    }
    const auto counts = plane_.counts();
    EXPECT_EQ(counts.accepted, clients_.size());
    EXPECT_EQ(counts.answered, 0U);
    EXPECT_GT(counts.crossings, 0U);
    return true;
  }

 private:
  struct Client {
    Line line;
    bool idle = true;
  };

  void ask(Client& client) {
    client.idle = false;
    client.line.seed = ++last_seed_;
    client.line.out = request_of(last_seed_);
    client.line.wanted = response_of(last_seed_);
  }

  // In every other case there is nobody for a moment.
  void replace() {
    if (random_() % 2 == 0 && generation_ > 0) plane_.hold();
    listening_.emplace_back();
    plane_.route(listening_.back().address(), ++generation_);
    if (generation_ > 1) plane_.data->drain(Plane::kService, generation_ - 1, -1, generation_);
  }

  bool serve() {
    bool moved = false;
    for (Listening& listening : listening_) {
      while (listening.has_client(Duration(0))) {
        servers_.push_back({.peer = listening.accept(), .out = "", .in = ""});
        moved = true;
      }
    }
    for (std::size_t i = 0; i < servers_.size(); ++i) {
      Line& server = servers_[i];
      moved = server.step() || moved;
      bool close = server.ended;
      if (!close && server.out.empty() && answer(server)) moved = true;
      // Between two requests: its client has the response, and has not asked for more.
      if (!close && is_idle(server) && random_() % 20 == 0) close = true;
      if (!close) continue;
      if (random_() % 2 == 0 && !server.ended) {
        server.peer.reset();
      }
      servers_.erase(servers_.begin() + static_cast<std::ptrdiff_t>(i--));
    }
    return moved;
  }

  bool is_idle(const Line& server) const {
    return std::any_of(clients_.begin(), clients_.end(), [&](const Client& client) {
      return client.idle && client.line.seed == server.seed && server.seed != 0;
    });
  }

  static bool answer(Line& server) {
    const std::size_t named = server.in.find("Seed: ");
    if (named == std::string::npos || server.in.find("\r\n", named) == std::string::npos) return false;
    const std::uint64_t seed = std::strtoull(server.in.c_str() + named + 6, nullptr, 10);
    if (server.seed != seed) server.wanted = request_of(server.seed = seed);
    if (server.in.size() < server.wanted.size()) return false;
    EXPECT_TRUE(server.in == server.wanted) << "request " << seed << " came as " << server.in.substr(0, 200);
    server.in.clear();
    server.out = response_of(seed);
    return true;
  }

  std::mt19937_64 random_;
  const bool upgrades_;  // of relayd, now and then
  std::vector<Listening> listening_;
  Plane plane_;
  std::vector<Line> servers_;
  std::vector<Client> clients_;
  std::uint32_t generation_ = 0;
  std::uint64_t last_seed_ = 0;
};

TEST(HttpRandom, EveryResponseIsThatOfItsRequest) {
  const char* given = std::getenv("RELAYD_SEED");
  const std::uint64_t first = given != nullptr ? std::strtoull(given, nullptr, 10) : 1;
  for (std::uint64_t seed = first; seed < first + (given != nullptr ? 1 : 6); ++seed) {
    World world(seed, seed % 4 < 2 ? 1 : 3, seed % 3 != 0);
    ASSERT_TRUE(world.play(std::getenv("RELAYD_SOAK") != nullptr ? 10'000 : 1'000)) << "RELAYD_SEED=" << seed;
  }
}

}  // namespace
}  // namespace relayd::net::test
