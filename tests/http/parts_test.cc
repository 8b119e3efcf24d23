#include <gtest/gtest.h>

#include <array>
#include <bit>

#include "proxy/http/body.h"
#include "proxy/http/first_bytes.h"
#include "proxy/http/head.h"

namespace relayd::http {
namespace {

using namespace std::string_view_literals;

RequestHead request(std::string_view head) {
  const auto read = parse_request_head(head);
  if (!read) ADD_FAILURE() << read.error().reason;
  return read.value_or(RequestHead{});
}

Body chunked_body() { return Body(RequestHead{.framing = Framing::kChunked}); }

TEST(HeadEnd, IsFoundWhereverTheSearchGoesOn) {
  const std::string_view bytes = "GET / HTTP/1.1\r\nHost: a\r\n\r\nbody\r\n\r\n";
  const std::size_t end = bytes.find("\r\n\r\n") + 4;
  for (std::size_t searched = 0; searched < end; ++searched) {
    EXPECT_EQ(find_head_end(bytes.substr(0, searched), 0).value(), 0u);
    EXPECT_EQ(find_head_end(bytes, searched).value(), end) << searched;
  }
}

TEST(HeadEnd, EmptyLinesBeforeARequest) {
  EXPECT_EQ(skip_empty_lines(""), 0u);
  EXPECT_EQ(skip_empty_lines("\r"), 0u);
  EXPECT_EQ(skip_empty_lines("\r\n"), 2u);
  EXPECT_EQ(skip_empty_lines("\r\n\r\n\rG"), 4u);
  EXPECT_EQ(skip_empty_lines("\n"), 0u);
  EXPECT_EQ(skip_empty_lines("GET"), 0u);
}

TEST(RequestHead, WhatMayBeSentAgain) {
  const struct {
    std::string_view method;
    bool idempotent;
  } rows[] = {{"GET", true},   {"HEAD", true},  {"PUT", true},    {"DELETE", true}, {"OPTIONS", true},
              {"TRACE", true}, {"POST", false}, {"PATCH", false}, {"get", false},   {"QUERY", false}};
  for (const auto& row : rows) {
    const std::string head = std::string(row.method) + " / HTTP/1.1\r\nHost: a\r\n\r\n";
    EXPECT_EQ(is_idempotent(request(head).method), row.idempotent) << row.method;
  }
  EXPECT_FALSE(is_idempotent(request("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n").method));
}

TEST(RequestHead, WhereForwardedFieldsGo) {
  const std::string_view head =
      "GET / HTTP/1.1\r\nHost: a\r\nx-forwarded-for: 10.0.0.1\r\nX-Forwarded-For:  10.0.0.2, 10.0.0.3 \r\n"
      "X-Forwarded-Proto:https\r\n\r\n";
  const RequestHead read = request(head);
  EXPECT_TRUE(head.substr(read.fields_begin).starts_with("Host: a\r\n"));
  EXPECT_EQ(read.forwarded_for.in(head), "10.0.0.2, 10.0.0.3");
  EXPECT_EQ(read.forwarded_proto.in(head), "https");
  EXPECT_EQ(request("GET / HTTP/1.1\r\nHost: a\r\nX-Forwarded-For:\r\n\r\n").forwarded_for.size, 0u);
  EXPECT_EQ(request("GET / HTTP/1.0\r\n\r\n").fields_begin, 16u);
}

TEST(RequestHead, WhatTheResponseDependsOn) {
  const RequestContext head = context_of(request("HEAD / HTTP/1.1\r\nHost: a\r\n\r\n"));
  EXPECT_TRUE(head.head && !head.connect && !head.upgrade);
  const RequestContext connect = context_of(request("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n"));
  EXPECT_TRUE(!connect.head && connect.connect && !connect.upgrade);
  const RequestContext upgrade =
      context_of(request("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"));
  EXPECT_TRUE(!upgrade.head && !upgrade.connect && upgrade.upgrade);
}

TEST(Body, WhatNeedNotBeRead) {
  Body body(RequestHead{.length = 1'000'000, .framing = Framing::kLength});
  EXPECT_EQ(body.unread(), 1'000'000u);
  body.skip(999'999);
  EXPECT_FALSE(body.done());
  EXPECT_FALSE(body.may_end());
  EXPECT_EQ(body.advance("xGET"), 1u);
  EXPECT_TRUE(body.done());
  EXPECT_EQ(body.unread(), 0u);

  Body chunks = chunked_body();
  EXPECT_EQ(chunks.unread(), 0u);
  EXPECT_EQ(chunks.advance("FFFFFFFF\r\n"), 10u);
  EXPECT_EQ(chunks.unread(), 0xFFFFFFFFu);
  chunks.skip(chunks.unread());
  EXPECT_EQ(chunks.unread(), 0u);
  EXPECT_EQ(chunks.advance("\r\n0\r\n\r\nGET"), 7u);
  EXPECT_TRUE(chunks.done());
}

TEST(Body, WhereTheSenderMayEnd) {
  Body until_close(ResponseHead{.framing = Framing::kUntilClose});
  EXPECT_EQ(until_close.advance("anything"), 8u);
  EXPECT_GT(until_close.unread(), std::uint64_t{1} << 62U);
  until_close.skip(1 << 20);
  EXPECT_TRUE(until_close.may_end());
  EXPECT_FALSE(until_close.done());
  EXPECT_TRUE(Body().may_end());
  EXPECT_TRUE(Body().done());
  Body chunks = chunked_body();
  chunks.advance("5\r\nhello\r\n0\r\n");
  EXPECT_FALSE(chunks.may_end());
}

TEST(Body, ManyChunksDoNotAddUp) {
  Body body = chunked_body();
  for (int i = 0; i < 100'000; ++i) ASSERT_EQ(body.advance("1;abcdefgh\r\nx\r\n"), 15u);
  EXPECT_EQ(body.refusal(), "");
}

TEST(Body, ARecordThatCannotBeOneIsTold) {
  using Record = std::array<std::uint8_t, sizeof(Body)>;
  EXPECT_TRUE(std::bit_cast<Body>(Record{}).is_sound());
  Record record{};
  record[12] = 255;  // the state
  EXPECT_FALSE(std::bit_cast<Body>(record).is_sound());
  record[12] = 2;  // a length of which nothing is left
  EXPECT_FALSE(std::bit_cast<Body>(record).is_sound());
  record[0] = 1;
  EXPECT_TRUE(std::bit_cast<Body>(record).is_sound());
}

TEST(FirstBytes, AreGuessedAtTheEarliestByte) {
  const struct {
    std::string_view bytes;
    std::size_t decided;  // by how many of the bytes; 0: not at all
    Guess guess;
  } rows[] = {
      {"GET / HTTP/1.1\r\nHost: a\r\n", 16, Guess::kYes},
      {"GET / HTTP/1.0\r\n", 16, Guess::kYes},
      {"VERSION-CONTROL /a HTTP/1.1\r\n", 29, Guess::kYes},
      {"OPTIONS * HTTP/1.1\r\n", 20, Guess::kYes},
      {"GET http://a/ HTTP/1.1\r\n", 24, Guess::kYes},
      {"CONNECT a:1 HTTP/1.1\r\n", 22, Guess::kYes},
      {"GET /caf\xc3\xa9 HTTP/1.1\r\n", 21, Guess::kYes},
      {"GET / HTTP/1.1\n", 15, Guess::kNo},
      {"GET / HTTP/1.2\r\n", 14, Guess::kNo},
      {"GET /\r\n", 6, Guess::kNo},                          // HTTP/0.9
      {"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 12, Guess::kNo},  // HTTP/2
      {"\x16\x03\x01\x02\x00\x01"sv, 1, Guess::kNo},         // TLS
      {"SSH-2.0-OpenSSH_9.2p1\r\n", 5, Guess::kNo},
      {"PING\r\n", 5, Guess::kNo},                      // Redis
      {"*1\r\n$4\r\nPING\r\n", 1, Guess::kNo},          // Redis
      {"\0\0\0\x08\x04\xd2\x16\x2f"sv, 1, Guess::kNo},  // PostgreSQL
      {"\x10\x0e\0\x04MQTT"sv, 1, Guess::kNo},
      {"get key\r\n", 1, Guess::kNo},         // memcached
      {"EHLO a.example\r\n", 7, Guess::kNo},  // SMTP: no URI has a scheme with a dot
      {"PROXY TCP4 10.0.0.1 10.0.0.2 1 2\r\n", 10, Guess::kNo},
      {"INVITE sip:a@b SIP/2.0\r\n", 12, Guess::kNo},
      {"OPTIONS rtsp://a/b RTSP/1.0\r\n", 20, Guess::kNo},
      {"CONNECT {\"verbose\":false}\r\n", 9, Guess::kNo},  // NATS
      {"GET  / HTTP/1.1\r\n", 5, Guess::kNo},
      {"\r\nGET / HTTP/1.1\r\n", 1, Guess::kNo},
      {"GET / HTTP/1.1", 0, Guess::kMore},
      {"", 0, Guess::kMore},
      {"ABCDEFGHIJKLMNOPQRSTUVWXYZABCDEFGHIJ", 33, Guess::kNo},
  };
  for (const auto& row : rows) {
    std::size_t decided = 0;
    for (std::size_t size = 1; size <= row.bytes.size() && decided == 0; ++size) {
      if (looks_like_http1_request(row.bytes.substr(0, size)) != Guess::kMore) decided = size;
    }
    EXPECT_EQ(looks_like_http1_request(row.bytes), row.guess) << testing::PrintToString(row.bytes);
    EXPECT_EQ(decided, row.decided) << testing::PrintToString(row.bytes);
  }
}

TEST(FirstBytes, ALongTargetIsNotWaitedForForEver) {
  std::string bytes = "GET /" + std::string(kMostFirstLine - 6, 'a');
  EXPECT_EQ(looks_like_http1_request(bytes), Guess::kMore);
  EXPECT_EQ(looks_like_http1_request(bytes + "a"), Guess::kNo);
  EXPECT_EQ(looks_like_http1_request(bytes + " HTTP/1.1\r\n"), Guess::kNo);
  bytes.resize(kMostFirstLine - 11);
  EXPECT_EQ(looks_like_http1_request(bytes + " HTTP/1.1\r\n"), Guess::kYes);
}

}  // namespace
}  // namespace relayd::http
