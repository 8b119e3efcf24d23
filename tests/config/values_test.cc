#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>

#include "proxy/config/listen.h"
#include "proxy/config/loader.h"
#include "proxy/config/words.h"

namespace relayd::config {
namespace {

using std::chrono_literals::operator""h;
using std::chrono_literals::operator""min;
using testing::HasSubstr;

TEST(Values, Durations) {
  EXPECT_EQ(parse_duration("250ms").value(), 250ms);
  EXPECT_EQ(parse_duration("0s").value(), 0s);
  EXPECT_EQ(parse_duration("30s").value(), 30s);
  EXPECT_EQ(parse_duration("5m").value(), 5min);
  EXPECT_EQ(parse_duration("1h").value(), 1h);
  EXPECT_EQ(parse_duration("8760h").value(), 8760h);
  for (const char* text :
       {"", "5", "0", "s", "5 s", " 5s", "5s ", "-5s", "+5s", "1.5s", "5S", "5sec", "1m30s", "8761h",
        "31536000001ms", "18446744073709551616ms", "99999999999999999999999h", "0x5s", "inf"}) {
    const auto parsed = parse_duration(text);
    ASSERT_FALSE(parsed) << text;
    EXPECT_THAT(parsed.error().message, HasSubstr("250ms, 30s, 5m"));
    EXPECT_THAT(parsed.error().message, HasSubstr(text));
  }
}

TEST(Values, DurationsAreWrittenInTheLargestExactUnit) {
  const std::pair<Duration, const char*> rows[] = {{0s, "0s"},     {250ms, "250ms"}, {1500ms, "1500ms"},
                                                   {90s, "90s"},   {120s, "2m"},     {1h, "1h"},
                                                   {90min, "90m"}, {3601s, "3601s"}, {-5s, "-5s"}};
  for (const auto& [value, text] : rows) EXPECT_EQ(format_duration(value), text);
}

TEST(Values, Sizes) {
  EXPECT_EQ(parse_size("512").value(), 512U);
  EXPECT_EQ(parse_size("512B").value(), 512U);
  EXPECT_EQ(parse_size("64KiB").value(), 65536U);
  EXPECT_EQ(parse_size("1MiB").value(), 1U << 20);
  EXPECT_EQ(parse_size("2GiB").value(), 2ULL << 30);
  for (const char* text : {"", "KiB", "64KB", "64kib", "64K", "-1", "1.5MiB", "9223372036854775807GiB"}) {
    EXPECT_FALSE(parse_size(text)) << text;
  }
}

TEST(Values, PercentagesCountsModesAndThreads) {
  EXPECT_EQ(parse_percent("0%").value(), 0U);
  EXPECT_EQ(parse_percent("100%").value(), 100U);
  for (const char* text : {"", "%", "25", "101%", "-1%", "2.5%", "25 %", "25%%"})
    EXPECT_FALSE(parse_percent(text)) << text;

  EXPECT_EQ(parse_count("0").value(), 0U);
  EXPECT_EQ(parse_count("4294967295").value(), 4294967295U);
  for (const char* text : {"", "-1", "4294967296", "1e3", "0x10", "1 ", "ten"})
    EXPECT_FALSE(parse_count(text)) << text;

  EXPECT_EQ(parse_mode_bits("0600").value(), 0600U);
  EXPECT_EQ(parse_mode_bits("0660").value(), 0660U);
  for (const char* text : {"", "600", "0800", "01777", "0o600", "rw", "-0600", "0600 "}) {
    EXPECT_FALSE(parse_mode_bits(text)) << text;
  }

  EXPECT_EQ(parse_threads("auto").value(), 0U);
  EXPECT_EQ(parse_threads("8").value(), 8U);
  for (const char* text : {"", "0", "Auto", "-2", "many"}) EXPECT_FALSE(parse_threads(text)) << text;
}

TEST(Values, Signals) {
  EXPECT_EQ(parse_signal("TERM").value(), SIGTERM);
  EXPECT_EQ(parse_signal("SIGQUIT").value(), SIGQUIT);
  EXPECT_EQ(parse_signal("WINCH").value(), SIGWINCH);
  for (const char* text : {"", "SIG", "15", "STOP", "SIGSEGV"}) EXPECT_FALSE(parse_signal(text)) << text;
  EXPECT_THAT(parse_signal("term").error().message, HasSubstr("did you mean 'TERM'?"));
  EXPECT_THAT(parse_signal("SIGTREM").error().message, HasSubstr("did you mean 'TERM'?"));
}

TEST(Listen, Addresses) {
  const auto every = listen_addresses(":80");
  ASSERT_TRUE(every);
  ASSERT_EQ(every->size(), 2U);
  EXPECT_EQ((*every)[0].to_string(), "0.0.0.0:80");
  EXPECT_EQ((*every)[1].to_string(), "[::]:80");
  for (const std::string text : {"127.0.0.1:80", "[::1]:80", "unix:/run/web.sock", "unix:@web"}) {
    const auto one = listen_addresses(text);
    ASSERT_TRUE(one) << text;
    ASSERT_EQ(one->size(), 1U);
    EXPECT_EQ((*one)[0].to_string(), text);
  }
  const std::pair<const char*, const char*> faults[] = {
      {"80", "did you mean ':80'?"},
      {"*:80", "did you mean ':80'?"},
      {"localhost:80", "'127.0.0.1:80'?"},
      {"/run/web.sock", "'unix:/run/web.sock'?"},
      {"example.com:80", "names are not"},
      {":", "expected"},
      {":99999", "expected"},
      {"", "expected"},
      {"unix:", "needs a path"},
  };
  for (const auto& [text, message] : faults) {
    const auto refused = listen_addresses(text);
    ASSERT_FALSE(refused) << text;
    EXPECT_THAT(refused.error().message, HasSubstr(message));
  }
}

TEST(Listen, Clashes) {
  const auto clashes = [](const char* a, const char* b) {
    const auto x = *SocketAddress::parse(a);
    const auto y = *SocketAddress::parse(b);
    EXPECT_EQ(clash(x, y), clash(y, x)) << a << " " << b;
    return clash(x, y);
  };
  EXPECT_TRUE(clashes("127.0.0.1:80", "127.0.0.1:80"));
  EXPECT_TRUE(clashes("0.0.0.0:80", "127.0.0.1:80"));
  EXPECT_TRUE(clashes("[::]:80", "[::1]:80"));
  EXPECT_TRUE(clashes("unix:/a", "unix:/a"));
  EXPECT_FALSE(clashes("0.0.0.0:80", "[::]:80"));
  EXPECT_FALSE(clashes("127.0.0.1:80", "127.0.0.2:80"));
  EXPECT_FALSE(clashes("127.0.0.1:80", "127.0.0.1:81"));
  EXPECT_FALSE(clashes("127.0.0.1:0", "127.0.0.1:0"));  // any free port: two of them
  EXPECT_FALSE(clashes("unix:/a", "unix:/b"));
}

TEST(Words, ForeignTextIsQuotedForOneLine) {
  EXPECT_EQ(in_quotes("plain"), "'plain'");
  EXPECT_EQ(in_quotes("a\nb\x1b[2J\x7f"), "'a\\x0ab\\x1b[2J\\x7f'");
  EXPECT_EQ(in_quotes(std::string(61, 'x')), "'" + std::string(60, 'x') + "…'");
  EXPECT_EQ(in_quotes(std::string(59, 'x') + "\xc3\xa9yz"),
            "'" + std::string(59, 'x') + "…'");  // no half character
  EXPECT_EQ(list_of({}), "");
  EXPECT_EQ(list_of({"a"}), "a");
  EXPECT_EQ(list_of({"a", "b"}), "a or b");
  EXPECT_EQ(list_of({"a", "b", "c"}), "a, b or c");
}

}  // namespace
}  // namespace relayd::config
