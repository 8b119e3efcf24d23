#include "proxy/config/names.h"

#include <gtest/gtest.h>

#include "proxy/config/loader.h"

namespace relayd::config {
namespace {

// Each name reads back as its value, and nothing else does.
template <typename E>
void expect_round_trip(std::optional<E> (*from)(std::string_view), std::size_t count) {
  EXPECT_EQ(kNames<E>.size(), count);
  for (const auto& name : kNames<E>) {
    EXPECT_STREQ(to_string(name.value), name.text);
    EXPECT_EQ(from(name.text), name.value) << name.text;
  }
  for (const char* other : {"", "Auto", "PHASED", "phased ", "none at all"})
    EXPECT_EQ(from(other), std::nullopt);
}

TEST(Names, RoundTrip) {
  expect_round_trip<Protocol>(protocol_from, 3);
  expect_round_trip<ProxyProtocol>(proxy_protocol_from, 3);
  expect_round_trip<AddressKind>(address_kind_from, 4);
  expect_round_trip<Steering>(steering_from, 3);
  expect_round_trip<Balance>(balance_from, 3);
  expect_round_trip<StopWhen>(stop_when_from, 2);
  expect_round_trip<Check>(check_from, 6);
  expect_round_trip<Mode>(mode_from, 3);
  expect_round_trip<FailureAction>(failure_action_from, 3);
  expect_round_trip<log::Level>(log_level_from, 4);
  expect_round_trip<log::Format>(log_format_from, 2);
  EXPECT_EQ(mode_from("hot"), Mode::kHot);
  EXPECT_EQ(balance_from("round_robin"), Balance::kRoundRobin);
  EXPECT_EQ(check_from("notify"), Check::kNotify);
}

TEST(Nearest, FindsTheNameMeant) {
  const std::vector<std::string_view> known = {
      "mode", "graceful_timeout", "tunnel_timeout", "close_spread", "timeout", "max_connections", "path"};
  const struct {
    const char* name;
    const char* meant;
  } rows[] = {
      {"gracefull_timeout", "graceful_timeout"},
      {"graceful-timeout", "graceful_timeout"},
      {"GRACEFUL_TIMEOUT", "graceful_timeout"},
      {"timout", "timeout"},
      {"itmeout", "timeout"},  // swapped neighbours count once
      {"mdoe", "mode"},
      {"mod", "mode"},
      {"paht", "path"},
      {"graceful", "graceful_timeout"},
      {"max_conn", "max_connections"},
      {"xyz", ""},
      {"", ""},
      {"replicas", ""},
  };
  for (const auto& row : rows) EXPECT_EQ(nearest(row.name, known), row.meant) << row.name;
  EXPECT_EQ(nearest(std::string(100'000, 'm'), known), "");
  EXPECT_EQ(nearest("ma", {"max_a", "max_b"}), "");
  EXPECT_EQ(nearest("max", {"max_alpha", "max_beta"}), "");  // either could be meant
}

}  // namespace
}  // namespace relayd::config
