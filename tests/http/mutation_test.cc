#include <gtest/gtest.h>

#include <cstdlib>
#include <random>

#include "tests/http/corpus.h"
#include "tests/http/properties.h"

// Mutations of the corpus, and sequences of good messages, by the hundred thousand. RELAYD_SEED replays one
// that a failure names; RELAYD_SOAK makes fifty times as many.
namespace relayd::http {
namespace {

std::uint64_t seeds(std::uint64_t usual) {
  return std::getenv("RELAYD_SOAK") != nullptr ? usual * 50 : usual;
}

std::optional<std::uint64_t> only_seed() {
  const char* const text = std::getenv("RELAYD_SEED");
  if (text == nullptr) return std::nullopt;
  return std::strtoull(text, nullptr, 10);
}

template <typename Play>
void play_seeds(std::uint64_t usual, Play play) {
  if (const auto only = only_seed()) return play(*only);
  for (std::uint64_t seed = 1; seed <= seeds(usual); ++seed) {
    play(seed);
    if (testing::Test::HasFailure()) return;
  }
}

constexpr std::string_view kSpice[] = {"\r",
                                       "\n",
                                       "\r\n",
                                       "\r\n\r\n",
                                       " ",
                                       "\t",
                                       std::string_view("\0", 1),
                                       "\x7f",
                                       "\xff",
                                       "0",
                                       "f",
                                       ":",
                                       ";",
                                       ",",
                                       "=",
                                       "\"",
                                       "\\",
                                       "0\r\n\r\n",
                                       "5\r\nhello\r\n",
                                       ";a=\"b\"",
                                       " HTTP/1.1\r\n",
                                       "HTTP/1.0",
                                       "\r\nHost: b",
                                       "\r\nContent-Length: 3",
                                       "\r\nTransfer-Encoding: chunked",
                                       "chunked",
                                       "\r\nConnection: close",
                                       "\r\nConnection: upgrade\r\nUpgrade: x",
                                       "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
                                       "HTTP/1.1 200 OK\r\n\r\n"};

std::string mutated(std::mt19937_64& random, const std::vector<std::string>& texts) {
  std::string text = texts[random() % texts.size()];
  for (auto count = random() % 5; count > 0; --count) {
    const std::size_t at = text.empty() ? 0 : random() % text.size();
    const std::size_t length = std::min<std::size_t>(random() % 12, text.size() - at);
    switch (random() % 5) {
      case 0:
        text.erase(at, length);
        break;
      case 1:
        text.insert(at, text.substr(at, length));
        break;
      case 2:
        if (!text.empty()) text[at] = static_cast<char>(random());
        break;
      case 3: {
        const std::string& other = texts[random() % texts.size()];
        text = text.substr(0, at) + other.substr(random() % other.size());
        break;
      }
      default:
        text.insert(at, kSpice[random() % std::size(kSpice)]);
    }
  }
  return text;
}

TEST(Mutation, EveryPropertyHolds) {
  std::vector<std::string> texts;
  for (const Case& one : read_corpus(RELAYD_HTTP_CORPUS)) {
    if (one.bytes.size() < 1000 && !one.bytes.empty()) texts.push_back(one.bytes);
  }
  play_seeds(70'000, [&](std::uint64_t seed) {
    std::mt19937_64 random(seed);
    const std::string text = mutated(random, texts);
    const bool response = text.starts_with("HTTP");
    const auto choice = static_cast<char>((random() & ~std::uint64_t{1}) | (response ? 1U : 0U));
    EXPECT_EQ(broken_property(choice + text), "") << "RELAYD_SEED=" << seed << "\n"
                                                  << testing::PrintToString(text);
  });
}

struct Stream {
  std::string bytes;
  std::vector<std::size_t> ends;
};

std::string chunks(std::mt19937_64& random) {
  std::string text;
  for (auto count = random() % 4; count > 0; --count) {
    const std::size_t size = 1 + random() % 40;
    char digits[20];
    std::snprintf(digits, sizeof digits, random() % 2 == 0 ? "%zx" : "%04zX", size);
    text += digits;
    if (random() % 4 == 0) text += ";name=\"a \\\" b\"";
    text += "\r\n";
    for (std::size_t i = 0; i < size; ++i) text += static_cast<char>(random());
    text += "\r\n";
  }
  text += "0\r\n";
  if (random() % 3 == 0) text += "Trailer: of some kind\r\n";
  return text + "\r\n";
}

Stream good_messages(std::mt19937_64& random, Side side) {
  Stream stream;
  for (auto count = 1 + random() % 6; count > 0; --count) {
    if (side == Side::kRequest && random() % 8 == 0) stream.bytes += "\r\n";
    stream.bytes += side == Side::kRequest ? "POST /some/path?q=1 HTTP/1.1\r\nHost: a.example\r\n"
                                           : "HTTP/1.1 200 OK\r\n";
    for (auto lines = random() % 4; lines > 0; --lines)
      stream.bytes += "X-Line: value " + std::to_string(random()) + "\r\n";
    const std::size_t size = random() % 100;
    if (random() % 2 == 0) {
      stream.bytes += "Content-Length: " + std::to_string(size) + "\r\n\r\n" + std::string(size, '\n');
    } else {
      stream.bytes += "Transfer-Encoding: chunked\r\n\r\n" + chunks(random);
    }
    stream.ends.push_back(stream.bytes.size());
  }
  return stream;
}

TEST(Pipeline, EveryEndIsFoundAtAnySplit) {
  play_seeds(20'000, [](std::uint64_t seed) {
    std::mt19937_64 random(seed);
    const Side side = random() % 2 == 0 ? Side::kRequest : Side::kResponse;
    const Stream stream = good_messages(random, side);
    Follower follower(side, {}, random() % 2 == 0);
    const std::size_t most = 1 + random() % 200;
    for (std::string_view rest = stream.bytes; !rest.empty();) {
      const std::size_t size = std::min<std::size_t>(1 + random() % most, rest.size());
      follower.feed(rest.substr(0, size));
      rest.remove_prefix(size);
    }
    EXPECT_EQ(follower.marks(), stream.ends) << "RELAYD_SEED=" << seed << ": " << follower.told();
    EXPECT_EQ(follower.broken(), "") << "RELAYD_SEED=" << seed;
  });
}

}  // namespace
}  // namespace relayd::http
