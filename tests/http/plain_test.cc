#include <gtest/gtest.h>

#include <random>
#include <string>

#include "proxy/http/characters.h"
#include "proxy/http/fields.h"
#include "proxy/http/request_line.h"
#include "proxy/http/second_reading.h"

// Plain heads are not read a second time. So llhttp must have nothing to say against any of them; and the
// searches by words must find what a look at each byte finds.
namespace relayd::http {
namespace {

// Whether the head counts as plain; then llhttp must agree.
bool is_plain_request(const std::string& first, const std::string& lines) {
  const std::string head = first + "\r\n" + lines + "\r\n";
  const auto line = read_request_line(first);
  const auto fields = read_fields(head, first.size() + 2);
  if (!line || !fields || !line->plain || !fields->plain_framing) return false;
  if (fields->chunked && line->minor == 0) return false;  // refused before
  const auto again = read_request_again(head, *line, *fields, first.size() + 2);
  EXPECT_TRUE(again) << testing::PrintToString(head) << again.error().reason;
  return true;
}

bool is_plain_response(const std::string& first, const std::string& lines) {
  const std::string head = first + "\r\n" + lines + "\r\n";
  const auto read = parse_response_head(head, {});
  const auto fields = read_fields(head, first.size() + 2);
  if (!read || !fields || !fields->plain_framing) return false;
  const auto again = read_response_again(head, read->status, read->minor, *fields, first.size() + 2);
  EXPECT_TRUE(again) << testing::PrintToString(head) << again.error().reason;
  return true;
}

std::string of(unsigned byte) { return std::string(1, static_cast<char>(byte)); }

TEST(Plain, EveryByteOfATarget) {
  int plain = 0;
  for (unsigned a = 1; a < 256; ++a) {
    for (unsigned b = 1; b < 256; ++b) {
      for (const char* before : {"/", "/a?", "/?b=", ""}) {
        plain += is_plain_request("GET " + (before + of(a) + of(b)) + " HTTP/1.1", "") ? 1 : 0;
      }
      if (HasFailure()) return;
    }
  }
  constexpr int kPathChars =
      26 + 26 + 10 + 4 + 11 + 4;  // RFC 3986: ALPHA, DIGIT, other unreserved, sub-delims, ":@/?"
  EXPECT_EQ(plain, 3 * (kPathChars + 1) * (kPathChars + 1) + kPathChars + 1);  // and "%"
}

TEST(Plain, EveryMethodAndVersion) {
  for (const char* method : {"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "TRACE"}) {
    for (const char* version : {" HTTP/1.1", " HTTP/1.0"}) {
      for (const char* lines : {"", "Content-Length: 0\r\n", "Content-Length: 12345\r\n", "X: y\r\n"}) {
        EXPECT_TRUE(is_plain_request(std::string(method) + " /" + version, lines)) << method << lines;
      }
    }
    EXPECT_TRUE(is_plain_request(std::string(method) + " /a?b HTTP/1.1", "Transfer-Encoding: chunked\r\n"));
  }
  for (const char* line :
       {"PATCH / HTTP/1.1", "CONNECT a:1 HTTP/1.1", "GET * HTTP/1.1", "GET http://a/ HTTP/1.1",
        "GET /# HTTP/1.1", "GET /\xc3\xa9 HTTP/1.1", "get / HTTP/1.1"}) {
    EXPECT_FALSE(is_plain_request(line, "")) << line;
  }
}

const std::string kFramings[] = {"Content-Length: ",    "content-length: ",    "CONTENT-LENGTH: ",
                                 "Content-Length:",     "Content-Length:  ",   "Content-Length:\t",
                                 "Transfer-Encoding: ", "transfer-encoding: ", "Transfer-Encoding:"};

TEST(Plain, EveryLength) {
  std::mt19937_64 random(7);
  int plain = 0;
  for (int i = 0; i < 20'000; ++i) {
    std::string digits;
    for (std::size_t left = 1 + random() % 21; left > 0; --left)
      digits += random() % 3 == 0 ? "0" : random() % 3 == 0 ? "9" : std::to_string(random() % 10);
    const std::string line = kFramings[random() % 6] + digits + (random() % 8 == 0 ? " \r\n" : "\r\n");
    plain += is_plain_request("POST / HTTP/1.1", line) ? 1 : 0;
    plain += is_plain_response("HTTP/1.1 200 OK", line) ? 1 : 0;
    if (HasFailure()) return;
  }
  EXPECT_GT(plain, 10'000);
  EXPECT_TRUE(is_plain_request("POST / HTTP/1.1", "Content-Length: 999999999999999999\r\n"));
  EXPECT_FALSE(is_plain_request("POST / HTTP/1.1", "Content-Length: 1000000000000000000\r\n"));
  EXPECT_FALSE(is_plain_request("POST / HTTP/1.1", "Content-Length:1\r\n"));
  EXPECT_FALSE(is_plain_request("POST / HTTP/1.1", "Content-Length: 1 \r\n"));
}

TEST(Plain, EveryCaseOfChunked) {
  for (unsigned bits = 0; bits < 1U << 7U; ++bits) {
    std::string word = "chunked";
    for (std::size_t i = 0; i < word.size(); ++i) {
      if (bits & 1U << i) word[i] = static_cast<char>(word[i] - 'a' + 'A');
    }
    for (const std::string& name : kFramings) {
      const bool plain = is_plain_request("POST / HTTP/1.1", name + word + "\r\n");
      EXPECT_EQ(plain,
                bits == 0 && name.starts_with("T") + name.starts_with("t") == 1 && name.ends_with(": "))
          << name << word;
      is_plain_response("HTTP/1.1 200 OK", name + word + "\r\n");
    }
  }
}

TEST(Plain, EveryStatusAndPhrase) {
  int plain = 0;
  for (unsigned status = 100; status < 1000; ++status) {
    for (const char* version : {"HTTP/1.0 ", "HTTP/1.1 "}) {
      for (const char* phrase : {"", " ", " OK", " Not Found"}) {
        plain +=
            is_plain_response(version + std::to_string(status) + phrase, "Content-Length: 5\r\n") ? 1 : 0;
      }
    }
  }
  EXPECT_GT(plain, 800 * 2 * 4);
  for (unsigned a = 1; a < 256; ++a) {
    for (unsigned b = 1; b < 256; ++b) is_plain_response("HTTP/1.1 200 " + of(a) + of(b), "X: y\r\n");
    if (HasFailure()) return;
  }
}

// Each byte at each place among others.
TEST(Words, FindWhatALookAtEachByteFinds) {
  std::mt19937 random(3);
  constexpr std::string_view kTelling = "\t \x1f\x7f\x80\xff-@[`{:\r\n";
  for (int i = 0; i < 200'000; ++i) {
    std::string text;
    for (std::size_t left = random() % 40; left > 0; --left) {
      const auto kind = random() % 16;
      text.push_back(kind == 0   ? static_cast<char>(random())
                     : kind == 1 ? kTelling[random() % kTelling.size()]
                                 : static_cast<char>('a' + random() % 26 - (random() % 2) * 32));
    }
    ASSERT_EQ(span_of_name(text), span_of(kTokenChar, text)) << testing::PrintToString(text);
    ASSERT_EQ(span_of_value(text), span_of(kValueChar, text)) << testing::PrintToString(text);
    ASSERT_EQ(span_of_target(text), span_of(kTargetChar, text)) << testing::PrintToString(text);
    std::string lower;
    for (const char c : text) lower.push_back(to_lower(c));
    const std::string name = text.substr(0, span_of_name(text));
    for (const std::string& other :
         {lower.substr(0, name.size()), std::string("content-length"), std::string("transfer-encoding")}) {
      if (other.find_first_not_of("abcdefghijklmnopqrstuvwxyz-") != std::string::npos) continue;
      ASSERT_EQ(is_name(name, other), equals_ignoring_case(name, other)) << name << " " << other;
    }
  }
}

// Each byte in place of each of a name's, which differ in the one bit that case is, or in others.
TEST(Words, OneByteMakesAnotherName) {
  for (const std::string_view name :
       {"host", "connection", "content-length", "transfer-encoding", "x-forwarded-for"}) {
    for (std::size_t at = 0; at < name.size(); ++at) {
      for (unsigned byte = 0; byte < 256; ++byte) {
        if (!is_a(kTokenChar, static_cast<char>(byte))) continue;
        std::string text(name);
        text[at] = static_cast<char>(byte);
        ASSERT_EQ(is_name(text, name), equals_ignoring_case(text, name)) << text;
      }
    }
  }
}

}  // namespace
}  // namespace relayd::http
