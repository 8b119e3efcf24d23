#include "proxy/base/proxy_protocol.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <random>
#include <vector>

namespace relayd {
namespace {

using testing::HasSubstr;
using testing::PrintToString;

const std::string kSignature("\r\n\r\n\0\r\nQUIT\n", 12);
const std::string kPorts("\x1f\x90\x01\xbb", 4);  // 8080, 443
const std::string kV4 = std::string("\x0a\x01\x02\x03\xc0\x00\x02\x01", 8) + kPorts;
const std::string kV6 = std::string("\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01", 16) +
                        std::string("\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x02", 16) + kPorts;
const std::string kUnix(216, 'u');

std::string two_bytes(std::size_t number) {
  return {static_cast<char>(number >> 8U), static_cast<char>(number & 0xffU)};
}

// A version 2 header whose length is right.
std::string v2(char command, char family, const std::string& contents) {
  return kSignature + command + family + two_bytes(contents.size()) + contents;
}

std::string tlv(char type, const std::string& value) { return type + two_bytes(value.size()) + value; }

// Bit by bit, unlike the code under test.
std::string crc32c(const std::string& bytes) {
  std::uint32_t crc = ~0U;
  for (const char c : bytes) {
    crc ^= static_cast<std::uint8_t>(c);
    for (int i = 0; i < 8; ++i) crc = (crc & 1U) != 0 ? (crc >> 1U) ^ 0x82f63b78U : crc >> 1U;
  }
  return two_bytes(~crc >> 16U) + two_bytes(~crc & 0xffffU);
}

// `addresses` with a checksum, and a TLV on either side of it.
std::string summed(char family, const std::string& addresses) {
  const std::string front = addresses + tlv(0x02, "example.org");
  const std::string zeros = v2(0x21, family, front + tlv(0x03, std::string(4, '\0')) + tlv(0x04, "pad"));
  std::string header = zeros;
  header.replace(16 + front.size() + 3, 4, crc32c(zeros));
  return header;
}

struct Good {
  std::string bytes;
  std::string source;  // empty: local
  std::string destination;
};

const std::vector<Good>& good_headers() {
  static const std::vector<Good> kTable = {
      {"PROXY TCP4 10.1.2.3 192.0.2.1 8080 443\r\n", "10.1.2.3:8080", "192.0.2.1:443"},
      {"PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n", "0.0.0.0:0", "255.255.255.255:65535"},
      {"PROXY TCP6 2001:db8::1 ::1 1 2\r\n", "[2001:db8::1]:1", "[::1]:2"},
      {"PROXY TCP6 2001:DB8::A ::ffff:10.1.2.3 1 2\r\n", "[2001:db8::a]:1", "[::ffff:10.1.2.3]:2"},
      {"PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 "
       "65535\r\n",
       "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535", "[ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff]:65535"},
      {"PROXY UNKNOWN\r\n", "", ""},
      {"PROXY UNKNOWN \r\n", "", ""},
      {"PROXY UNKNOWN ffff:f...f:ffff what ever \xff \r\n", "", ""},
      {"PROXY UNKNOWN " + std::string(91, 'x') + "\r\n", "", ""},  // 107 bytes
      {v2(0x21, 0x11, kV4), "10.1.2.3:8080", "192.0.2.1:443"},
      {v2(0x21, 0x21, kV6), "[2001:db8::1]:8080", "[2001:db8::2]:443"},
      {v2(0x21, 0x31, kUnix), "", ""},
      {v2(0x21, 0x00, ""), "", ""},
      {v2(0x21, 0x00, "anything"), "", ""},
      {v2(0x20, 0x00, ""), "", ""},
      {v2(0x20, 0x11, kV4), "", ""},
      {v2(0x20, 0x12, "\x03 anything"), "", ""},  // LOCAL: family and contents are skipped
      {v2(0x21, 0x11, kV4 + tlv(0x01, "h2")), "10.1.2.3:8080", "192.0.2.1:443"},
      {v2(0x21, 0x11, kV4 + tlv(0x04, "") + tlv(0x05, "id")), "10.1.2.3:8080", "192.0.2.1:443"},
      {v2(0x21, 0x11, kV4 + tlv(0x04, std::string(4096 - 16 - 12 - 3, 'x'))), "10.1.2.3:8080",
       "192.0.2.1:443"},
      {summed(0x11, kV4), "10.1.2.3:8080", "192.0.2.1:443"},
      {summed(0x21, kV6), "[2001:db8::1]:8080", "[2001:db8::2]:443"},
      {summed(0x31, kUnix), "", ""},
  };
  return kTable;
}

TEST(ProxyHeader, Good) {
  for (const Good& row : good_headers()) {
    for (const std::string follows : {"", "GET / HTTP/1.1\r\n", "\r\n", "PROXY TCP4 "}) {
      const auto parsed = parse_proxy_header(row.bytes + follows);
      ASSERT_TRUE(parsed) << PrintToString(row.bytes) << ": " << parsed.error().message;
      ASSERT_TRUE(parsed->has_value()) << PrintToString(row.bytes);
      const ProxyHeader header = parsed->value_or(ProxyHeader());
      EXPECT_EQ(header.size, row.bytes.size()) << PrintToString(row.bytes);
      EXPECT_EQ(header.local, row.source.empty()) << PrintToString(row.bytes);
      EXPECT_EQ(header.source ? header.source->to_string() : "", row.source);
      EXPECT_EQ(header.destination ? header.destination->to_string() : "", row.destination);
    }
  }
}

TEST(ProxyHeader, EveryPrefixOfAGoodOneIsIncomplete) {
  for (const Good& row : good_headers()) {
    for (std::size_t size = 0; size < row.bytes.size(); ++size) {
      const auto parsed = parse_proxy_header(std::string_view(row.bytes).substr(0, size));
      ASSERT_TRUE(parsed) << PrintToString(row.bytes) << " at " << size << ": " << parsed.error().message;
      ASSERT_FALSE(*parsed) << PrintToString(row.bytes) << " at " << size;
    }
  }
}

struct Bad {
  std::string bytes;
  std::string message;        // part of it
  std::size_t refused_after;  // bytes, no later; 0: at the end
};

const std::vector<Bad>& bad_headers() {
  static const std::vector<Bad> kTable = {
      {"GET / HTTP/1.1\r\n", "no PROXY header: the first bytes are 'G'; whoever", 1},
      {"PROST", "'PROS'", 4},
      {"proxy TCP4 ", "'p'", 1},
      {std::string("\x16\x03\x01\x02", 4), "'\\x16'", 1},
      {"\r\n\r\nGET", "'\\r\\n\\r\\nG'", 5},
      {std::string("\0", 1), "'\\x00'", 1},
      {"PROXY  TCP4 1.2.3.4 1.2.3.4 1 2\r\n", "PROXY TCP4, PROXY TCP6 or PROXY UNKNOWN", 7},
      {"PROXY TCP5 1.2.3.4 1.2.3.4 1 2\r\n", "PROXY TCP4, PROXY TCP6 or PROXY UNKNOWN", 10},
      {"PROXY TCP4\t1.2.3.4 1.2.3.4 1 2\r\n", "PROXY TCP4, PROXY TCP6 or PROXY UNKNOWN", 11},
      {"PROXY UDP4 1.2.3.4 1.2.3.4 1 2\r\n", "PROXY TCP4, PROXY TCP6 or PROXY UNKNOWN", 8},
      {"PROXY UNKNOWNX\r\n", "PROXY TCP4, PROXY TCP6 or PROXY UNKNOWN", 14},
      {"PROXY UNKNOW\r\n", "PROXY TCP4, PROXY TCP6 or PROXY UNKNOWN", 0},
      {"PROXY \r\n", "PROXY TCP4, PROXY TCP6 or PROXY UNKNOWN", 0},
      {"PROXY TCP4\r\n", "PROXY TCP4, PROXY TCP6 or PROXY UNKNOWN", 0},
      {"PROXY TCP4 \r\n", "two addresses and two ports", 0},
      {"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n", "two addresses and two ports", 0},
      {"PROXY TCP4 1.2.3.4 1.2.3.4 1 2 3\r\n", "two addresses and two ports", 0},
      {"PROXY TCP4 1.2.3.4 1.2.3.4 1 2 \r\n", "two addresses and two ports", 0},
      {"PROXY TCP4  1.2.3.4 1.2.3.4 1 2\r\n", "two addresses and two ports", 0},
      {"PROXY TCP4 1.2.3.4 1.2.3.4 1  2\r\n", "two addresses and two ports", 0},
      {"PROXY TCP4 1.2.3.4  1 2\r\n", "'' with port '2' is no IPv4", 0},
      {"PROXY TCP4 1.2.3.4 1.2.3.4 1 \r\n", "'1.2.3.4' with port '' is no IPv4", 0},
      {"PROXY TCP4 1.2.3.256 1.2.3.4 1 2\r\n", "'1.2.3.256' with port '1' is no IPv4", 0},
      {"PROXY TCP4 1.2.3.4 1.2.3 1 2\r\n", "'1.2.3' with port '2' is no IPv4", 0},
      {"PROXY TCP4 01.2.3.4 1.2.3.4 1 2\r\n", "'01.2.3.4'", 0},
      {"PROXY TCP4 1.2.3.4 1.2.3.4 01 2\r\n", "port '01'", 0},
      {"PROXY TCP4 1.2.3.4 1.2.3.4 1 00\r\n", "port '00'", 0},
      {"PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n", "port '65536'", 0},
      {"PROXY TCP4 1.2.3.4 1.2.3.4 1 99999999999999999999\r\n", "port '99999999999999999999'", 0},
      {"PROXY TCP4 1.2.3.4 1.2.3.4 -1 2\r\n", "'-' in its addresses", 28},
      {"PROXY TCP4 1.2.3.4 1.2.3.4 1 +2\r\n", "'+' in its addresses", 30},
      {"PROXY TCP4 ::1 ::1 1 2\r\n", "':' in its addresses", 12},
      {"PROXY TCP6 1.2.3.4 1.2.3.4 1 2\r\n", "'1.2.3.4' with port '1' is no IPv6", 0},
      {"PROXY TCP6 ::1 ::1 a 2\r\n", "port 'a'", 0},
      {"PROXY TCP6 ::1 1::2::3 1 2\r\n", "'1::2::3'", 0},
      {"PROXY TCP6 fe80::1%lo ::1 1 2\r\n", "'%' in its addresses", 19},
      {"PROXY TCP6 " + std::string(50, '1') + " ::1 1 2\r\n", "is no IPv6", 0},
      {"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n", "LF alone", 0},
      {"PROXY UNKNOWN\n", "LF alone", 0},
      {"PROXY UNKNOWN a\rb\r\n", "a CR within", 17},
      {"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\r\n", "a CR within", 32},
      {std::string("PROXY UNKNOWN \0\r\n", 17), "a zero byte", 15},
      {std::string("PROXY TCP4 1.2.3.4\0 1.2.3.4 1 2\r\n", 33), "a zero byte", 19},
      {"PROXY UNKNOWN " + std::string(92, 'x') + "\r\n", "no line end within 107 bytes", 107},
      {"PROXY UNKNOWN " + std::string(500, 'x'), "no line end within 107 bytes", 107},
      {kSignature + "\x11\x11", "version is 1", 13},
      {kSignature + "\x31\x11", "version is 3", 13},
      {kSignature + "\x22\x11", "command 2", 13},
      {v2(0x21, 0x12, kV4), "0x12", 14},
      {v2(0x21, 0x22, kV6), "0x22", 14},
      {v2(0x21, 0x32, kUnix), "0x32", 14},
      {v2(0x21, 0x10, kV4), "0x10", 14},
      {v2(0x21, 0x01, kV4), "0x01", 14},
      {v2(0x21, 0x41, kV4), "0x41", 14},
      {v2(0x21, 0x13, kV4), "0x13", 14},
      {v2(0x21, 0x11, kV4.substr(1)), "its length is 11, but its addresses take 12", 16},
      {v2(0x21, 0x21, kV6.substr(1)), "its length is 35, but its addresses take 36", 16},
      {v2(0x21, 0x31, kUnix.substr(1)), "its length is 215, but its addresses take 216", 16},
      {v2(0x21, 0x11, ""), "its length is 0", 16},
      {v2(0x21, 0x11, kV4 + tlv(0x04, std::string(4096 - 16 - 12 - 2, 'x'))), "4097 bytes", 16},
      {v2(0x20, 0x00, std::string(65535, 'x')).substr(0, 100), "65551 bytes", 16},
      {v2(0x21, 0x11, kV4 + "\x04"), "a TLV at byte 28", 0},
      {v2(0x21, 0x11, kV4 + std::string("\x04\0", 2)), "a TLV at byte 28", 0},
      {v2(0x21, 0x11, kV4 + std::string("\x04\0\x02x", 4)), "a TLV at byte 28", 0},
      {v2(0x21, 0x11, kV4 + std::string("\x04\xff\xffx", 4)), "a TLV at byte 28", 0},
      {v2(0x21, 0x11, kV4 + tlv(0x04, "x") + std::string("\x04\0\x02x", 4)), "a TLV at byte 32", 0},
      {v2(0x21, 0x11, kV4 + tlv(0x03, "abcd")), "its checksum is wrong", 0},
      {v2(0x21, 0x11, kV4 + tlv(0x03, "abc")), "its checksum must be one", 0},
      {v2(0x21, 0x11, kV4 + tlv(0x03, "abcde")), "its checksum must be one", 0},
      {v2(0x21, 0x11, kV4 + tlv(0x03, "")), "its checksum must be one", 0},
  };
  return kTable;
}

// A refusal comes in time, and stays; before it the header is incomplete, never taken.
TEST(ProxyHeader, BadOnesAreRefusedInTime) {
  for (const Bad& row : bad_headers()) {
    const std::size_t latest = row.refused_after != 0 ? row.refused_after : row.bytes.size();
    bool refused = false;
    for (std::size_t size = 0; size <= row.bytes.size(); ++size) {
      const auto parsed = parse_proxy_header(std::string_view(row.bytes).substr(0, size));
      ASSERT_FALSE(parsed && *parsed) << PrintToString(row.bytes) << " at " << size;
      ASSERT_FALSE(refused && parsed) << PrintToString(row.bytes) << " at " << size;
      if (!parsed && !refused) {
        refused = true;
        EXPECT_THAT(parsed.error().message, HasSubstr(row.message)) << PrintToString(row.bytes);
      }
      ASSERT_TRUE(refused || size < latest) << PrintToString(row.bytes) << " at " << size;
    }
  }
}

// Each bit that a checksum covers counts.
TEST(ProxyHeader, ChecksumFindsEveryFlippedBit) {
  const std::string header = summed(0x11, kV4);
  for (std::size_t bit = 16 * 8; bit < header.size() * 8; ++bit) {
    std::string changed = header;
    changed[bit / 8] = static_cast<char>(static_cast<std::uint8_t>(changed[bit / 8]) ^ (1U << bit % 8));
    const auto parsed = parse_proxy_header(changed);
    // A changed type makes it another TLV: there is no checksum any more.
    if (bit / 8 == 16 + kV4.size() + 3 + 11) continue;
    EXPECT_FALSE(parsed) << "bit " << bit;
  }
}

TEST(ProxyHeader, TwoChecksumsAreRefused) {
  std::string header = summed(0x11, kV4);
  header.replace(14, 2, two_bytes(header.size() - 16 + 7));
  const auto parsed = parse_proxy_header(header + tlv(0x03, "abcd"));
  EXPECT_FALSE(parsed);
}

TEST(ProxyHeader, ErrorsShowWhatCameEscapedAndCut) {
  EXPECT_THAT(parse_proxy_header("GET / HTTP/1.1\r\nHost: example.org\r\n").error().message,
              HasSubstr("are 'GET / HTTP/1.1\\r\\nHost: ex'...; whoever"));
  EXPECT_THAT(parse_proxy_header("\x1b'\\\xff").error().message, HasSubstr("'\\x1b\\x27\\x5c\\xff'"));
}

struct Written {
  const char* source;
  const char* destination;
  std::string v1;
  std::string v2;
};

TEST(EncodeProxyHeader, Table) {
  const std::string none = kSignature + std::string("\x20\0\0\0", 4);
  const std::string mapped(std::string("\0\0\0\0\0\0\0\0\0\0\xff\xff", 12));
  const Written rows[] = {
      {"10.1.2.3:8080", "192.0.2.1:443", "PROXY TCP4 10.1.2.3 192.0.2.1 8080 443\r\n", v2(0x21, 0x11, kV4)},
      {"[2001:db8::1]:8080", "[2001:db8::2]:443", "PROXY TCP6 2001:db8::1 2001:db8::2 8080 443\r\n",
       v2(0x21, 0x21, kV6)},
      {"[::ffff:10.1.2.3]:8080", "[::ffff:192.0.2.1]:443", "PROXY TCP4 10.1.2.3 192.0.2.1 8080 443\r\n",
       v2(0x21, 0x11, kV4)},
      {"[::ffff:10.1.2.3]:8080", "192.0.2.1:443", "PROXY TCP4 10.1.2.3 192.0.2.1 8080 443\r\n",
       v2(0x21, 0x11, kV4)},
      {"10.1.2.3:8080", "[2001:db8::2]:443", "PROXY TCP6 ::ffff:10.1.2.3 2001:db8::2 8080 443\r\n",
       v2(0x21, 0x21, mapped + kV4.substr(0, 4) + kV6.substr(16))},
      {"[2001:db8::1]:8080", "192.0.2.1:443", "PROXY TCP6 2001:db8::1 ::ffff:192.0.2.1 8080 443\r\n",
       v2(0x21, 0x21, kV6.substr(0, 16) + mapped + kV4.substr(4))},
      {"unix:/run/a", "10.1.2.3:1", "PROXY UNKNOWN\r\n", none},
      {"10.1.2.3:1", "unix:@a", "PROXY UNKNOWN\r\n", none},
      {nullptr, "10.1.2.3:1", "PROXY UNKNOWN\r\n", none},
      {"10.1.2.3:1", nullptr, "PROXY UNKNOWN\r\n", none},
      {nullptr, nullptr, "PROXY UNKNOWN\r\n", none},
  };
  for (const Written& row : rows) {
    std::optional<SocketAddress> source, destination;
    if (row.source != nullptr) source = *SocketAddress::parse(row.source);
    if (row.destination != nullptr) destination = *SocketAddress::parse(row.destination);
    const SocketAddress* from = source ? &*source : nullptr;
    const SocketAddress* to = destination ? &*destination : nullptr;
    EXPECT_EQ(encode_proxy_header(ProxyVersion::kV1, from, to), row.v1);
    EXPECT_EQ(encode_proxy_header(ProxyVersion::kV2, from, to), row.v2) << row.v1;
  }
  const SocketAddress empty;
  EXPECT_EQ(encode_proxy_header(ProxyVersion::kV1, &empty, &empty), "PROXY UNKNOWN\r\n");
}

SocketAddress random_address(std::mt19937_64& random, bool v6) {
  std::string bytes(v6 ? 16 : 4, '\0');
  const bool sparse = random() % 2 == 0;  // "::" in the text
  for (char& byte : bytes) byte = sparse && random() % 3 != 0 ? '\0' : static_cast<char>(random());
  if (v6) bytes[0] = '\x20';  // none of the mapped ones, which do not come back as they were
  return SocketAddress::from_ip_bytes(bytes, static_cast<std::uint16_t>(random()));
}

// What is written is read as it was, in any cut, with anything behind it.
TEST(EncodeProxyHeader, ComesBack) {
  const char* seed_text = std::getenv("RELAYD_SEED");
  const std::uint64_t seed =
      seed_text != nullptr ? std::strtoull(seed_text, nullptr, 10) : std::random_device{}();
  SCOPED_TRACE("replay with RELAYD_SEED=" + std::to_string(seed));
  std::mt19937_64 random(seed);
  for (int round = 0; round < 20000; ++round) {
    const bool v6 = random() % 2 == 0;
    const auto version = random() % 2 == 0 ? ProxyVersion::kV1 : ProxyVersion::kV2;
    const SocketAddress source = random_address(random, v6);
    const SocketAddress destination = random_address(random, v6);
    const std::string header = encode_proxy_header(version, &source, &destination);
    ASSERT_LE(header.size(), kMaxProxyHeaderV1);
    const auto early = parse_proxy_header(std::string_view(header).substr(0, random() % header.size()));
    ASSERT_TRUE(early && !*early) << PrintToString(header);
    std::string stream = header;
    for (auto more = random() % 20; more > 0; --more) stream += static_cast<char>(random());
    const auto parsed = parse_proxy_header(stream);
    ASSERT_TRUE(parsed) << PrintToString(header) << ": " << parsed.error().message;
    const ProxyHeader expected{
        .local = false, .source = source, .destination = destination, .size = header.size()};
    ASSERT_EQ(*parsed, expected) << PrintToString(header);
  }
}

}  // namespace
}  // namespace relayd
