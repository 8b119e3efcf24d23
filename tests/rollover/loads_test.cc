#include "proxy/rollover/loads.h"

#include <gtest/gtest.h>

namespace relayd::rollover {
namespace {

const SocketAddress kOne = SocketAddress::loopback(1);
const SocketAddress kTwo = SocketAddress::loopback(2);

TEST(InstanceLoads, AreOnePerAddressAndToldInOneSum) {
  InstanceLoads loads;
  EXPECT_EQ(loads.of(kOne), loads.of(kOne));
  EXPECT_NE(loads.of(kOne), loads.of(kTwo));
  loads.of(kOne)->active = 2;
  loads.of(kTwo)->active = 3;
  loads.of(kOne)->connections = 10;
  loads.of(kTwo)->requests = 7;
  EXPECT_EQ(loads.counts().active, 5U);
  EXPECT_EQ(loads.counts().connections, 10U);
  EXPECT_EQ(loads.counts().requests, 7U);
}

// A name that changes its address for months must not grow, and its counts must not shrink.
TEST(InstanceLoads, ThoseThatNobodyCountsOnAreSummedUp) {
  InstanceLoads loads;
  const auto used = loads.of(kTwo);
  const std::weak_ptr<net::EndpointLoad> unused = loads.of(kOne);
  unused.lock()->connections = 10;
  used->connections = 5;
  loads.fold();
  EXPECT_TRUE(unused.expired());
  EXPECT_EQ(loads.of(kTwo), used);
  used->connections = 6;
  EXPECT_EQ(loads.counts().connections, 16U);
  EXPECT_EQ(loads.of(kOne)->connections, 0U) << "a new one";
}

}  // namespace
}  // namespace relayd::rollover
