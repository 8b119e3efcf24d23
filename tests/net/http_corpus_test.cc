// Every message of the corpus of tests/http through a plane: whole, byte by byte, and cut in two. What is
// accepted reaches the other side byte for byte, and so does what comes next on the same connection; what is
// refused is answered, and nothing of it is passed on. RELAYD_SOAK cuts at every byte.
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <cstdlib>
#include <set>
#include <thread>

#include "proxy/net/chunk_pool.h"
#include "tests/http/corpus.h"
#include "tests/net/http_support.h"

namespace relayd::net::test {
namespace {

using http::Case;
using http::Follower;

// A response without a body, whatever the method, and no tunnel.
constexpr std::string_view kNone = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";

// A Unix socket holds some hundreds of small pieces while nobody reads, as nobody does within a message.
constexpr std::size_t kMostPieces = 200;

const std::vector<Case>& corpus() {
  static const std::vector<Case> cases = http::read_corpus(RELAYD_HTTP_CORPUS);
  return cases;
}

// Sends the pieces that end at these offsets, each when the one before it has been read; a Unix socket's own
// queue tells so. Ends early where the other side has closed.
void send_in_pieces(Peer& peer, std::string_view bytes, const std::set<std::size_t>& ends) {
  std::size_t begin = 0;
  for (const std::size_t end : ends) {
    if (!peer.try_send(bytes.substr(begin, end - begin))) return;
    begin = end;
    const TimePoint until = monotonic_now() + kPatience;
    int queued = 0;
    while (::ioctl(peer.fd(), SIOCOUTQ, &queued) == 0 && queued > 0 && begin != bytes.size()) {
      if (monotonic_now() > until) return ADD_FAILURE() << "nobody reads after byte " << end;
      std::this_thread::yield();
    }
  }
}

// Of streams longer than `most` not every byte, but so many near the ends, and some between.
std::set<std::size_t> every_byte(std::size_t size, std::size_t most, std::size_t near) {
  std::set<std::size_t> ends{size};
  for (std::size_t at = 1; at < size;) {
    ends.insert(at);
    at += size > most && at > near && at + near < size ? size / 64 : 1;
  }
  return ends;
}

std::vector<std::set<std::size_t>> ways(const Case& one, bool request) {
  const std::size_t size = one.bytes.size();
  std::vector<std::set<std::size_t>> all{{size}, every_byte(size, kMostPieces, kMostPieces / 4)};
  const std::set<std::size_t> cuts = every_byte(size, 2000, 200);
  const std::size_t step = std::getenv("RELAYD_SOAK") != nullptr ? 1 : request ? 23 : 11;
  std::size_t number = 0;
  for (const std::size_t at : cuts) {
    if (number++ % step == step / 2 && at != size) all.push_back({at, size});
  }
  return all;
}

// One client and whoever serves it.
class Talk {
 public:
  Talk() : plane_(over_unix(path_)), backend_(path_.address("back")) { plane_.route(backend_.address()); }

  void request(const Case& one, const std::set<std::size_t>& ends);
  void response(const Case& one, const std::set<std::size_t>& ends);

 private:
  static Plane::Options over_unix(const SocketPath& path) {
    Plane::Options options = http();
    options.listen = path.address("front");
    return options;
  }
  // So many bytes of requests; a backend connection that lay idle may have been given up before them.
  std::string take(std::size_t size) {
    for (int tries = 0; tries < 3; ++tries) {
      if (!server_) server_ = backend_.accept();
      char byte = 0;
      if (::recv(server_->fd(), &byte, 1, MSG_PEEK) == 1) return server_->receive(size);
      server_.reset();
    }
    ADD_FAILURE() << "no request came";
    return "";
  }
  // What else has reached a backend when the client has ended.
  std::string rest() {
    if (!server_ && backend_.has_client(Duration(0))) server_ = backend_.accept();
    std::string bytes = server_ ? server_->receive_all().bytes : "";
    server_.reset();
    return bytes;
  }
  void next_request(Peer& client) {
    client.send(kGet);
    EXPECT_EQ(take(kGet.size()), kGet);
    if (server_) server_->send(kNone);
    expect(client, kNone);
  }

  SocketPath path_;
  Plane plane_;
  Listening backend_;
  std::optional<Peer> server_;
};

std::vector<std::string> messages_of(const Follower& follower) {
  std::vector<std::string> messages;
  const std::string told = follower.told();
  std::size_t begin = 0;
  for (std::size_t end = told.find('\n'); end != std::string::npos; end = told.find('\n', begin)) {
    messages.push_back(told.substr(begin, end - begin));
    begin = end + 1;
  }
  return messages;
}

std::size_t skip_empty(std::string_view bytes, std::size_t at) {
  while (bytes.substr(at).starts_with("\r\n")) at += 2;
  return at;
}

bool closes(const std::string& message) { return message.find(" close") != std::string::npos; }

void Talk::request(const Case& one, const std::set<std::size_t>& ends) {
  Follower follower(http::Side::kRequest, {});
  follower.feed(one.bytes);
  const auto messages = messages_of(follower);
  const bool body_refused = !messages.empty() && messages.back().find("; refused") != std::string::npos;
  const std::size_t whole = follower.marks().size() - (body_refused ? 1 : 0);

  // A plane keeps a head in one chunk, which is some bytes short of the 64 KiB that the reader takes.
  const bool too_large = !follower.heads().empty() && follower.heads().front().size() > kChunkSize;
  if (too_large) return;

  Peer client = plane_.client();
  std::thread writer([&] { send_in_pieces(client, one.bytes, ends); });
  std::size_t begin = 0;
  for (std::size_t i = 0; i < whole; ++i) {
    begin = skip_empty(one.bytes, begin);
    const std::string message = one.bytes.substr(begin, follower.marks()[i] - begin);
    EXPECT_EQ(take(message.size()), message);
    if (server_) server_->send(kNone);
    expect(client, kNone);
    begin = follower.marks()[i];
  }
  begin = skip_empty(one.bytes, begin);
  writer.join();
  if (whole > 0 && whole == messages.size() && closes(messages.back())) {
    EXPECT_EQ(client.receive_all().bytes, "");
    EXPECT_EQ(rest(), "");
  } else if (body_refused) {
    EXPECT_EQ(client.receive_all().bytes.substr(0, 13), "HTTP/1.1 400 ");
    const std::string passed = rest();
    EXPECT_EQ(passed, one.bytes.substr(begin, passed.size()));
    EXPECT_LE(passed.size(), follower.marks().back() - begin);
  } else if (follower.refused()) {
    EXPECT_EQ(client.receive_all().bytes.substr(0, 12), "HTTP/1.1 " + messages.back().substr(8, 3));
    EXPECT_EQ(rest(), "");
  } else if (begin == one.bytes.size()) {
    next_request(client);
    client.close();
    EXPECT_EQ(rest(), "");
  } else {
    client.close();
    if (follower.heads().size() > whole && !server_) server_ = backend_.accept();
    const std::string passed = rest();
    EXPECT_EQ(passed, one.bytes.substr(begin, passed.size()));
  }
}

void Talk::response(const Case& one, const std::set<std::size_t>& ends) {
  const std::string request = one.context.head      ? "HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"
                              : one.context.connect ? "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n"
                              : one.context.upgrade
                                  ? "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"
                                  : std::string(kGet);
  Follower follower(http::Side::kResponse, one.context);
  follower.feed(one.bytes);
  const auto messages = messages_of(follower);
  std::size_t last = 0;  // the final one
  std::size_t begin = 0;
  while (last < messages.size() && messages[last].ends_with(" interim")) begin = follower.marks()[last++];
  const std::string told = last < messages.size() ? messages[last] : "unfinished";
  const bool whole = told.starts_with("accepted") && told.find("; refused") == std::string::npos &&
                     last < follower.marks().size();

  Peer client = plane_.client();
  client.send(request);
  EXPECT_EQ(take(request.size()), request);
  Peer server = std::move(*server_);
  server_.reset();
  std::thread writer([&] { send_in_pieces(server, one.bytes, ends); });
  if (whole && !closes(told)) {
    expect(client, one.bytes.substr(0, follower.marks()[last]));
    writer.join();
    server.close();
    next_request(client);
    server_.reset();
    return;
  }
  Received got;
  std::thread reader([&] { got = client.receive_all(); });
  writer.join();
  if (told.find("refused") == std::string::npos) server.close();  // else relayd ends it by itself
  reader.join();
  if (whole) {
    EXPECT_EQ(got.bytes, one.bytes.substr(0, follower.marks()[last]));
  } else if (told.starts_with("accepted") && told.find("until-close") != std::string::npos) {
    EXPECT_EQ(got.bytes, one.bytes);
  } else if (told.starts_with("accepted")) {
    EXPECT_EQ(got.bytes, one.bytes.substr(0, got.bytes.size()));
    EXPECT_GE(got.bytes.size(), begin + follower.heads().back().size());
  } else {
    EXPECT_EQ(got.bytes.substr(0, begin), one.bytes.substr(0, begin));
    EXPECT_EQ(got.bytes.substr(begin, 13), "HTTP/1.1 502 ");
  }
}

void through_a_plane(http::Side side) {
  Talk talk;
  for (const Case& one : corpus()) {
    if (one.side != side) continue;
    for (const auto& ends : ways(one, side == http::Side::kRequest)) {
      SCOPED_TRACE(one.name + ", in " + std::to_string(ends.size()) + " pieces, the first of " +
                   std::to_string(*ends.begin()));
      side == http::Side::kRequest ? talk.request(one, ends) : talk.response(one, ends);
      if (::testing::Test::HasFailure()) return;
    }
  }
}

TEST(HttpCorpus, Requests) { through_a_plane(http::Side::kRequest); }

TEST(HttpCorpus, Responses) { through_a_plane(http::Side::kResponse); }

}  // namespace
}  // namespace relayd::net::test
