#include "proxy/base/proxy_protocol.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace relayd {
namespace {

TEST(ProxyProtocol, First) {
  const auto h = parse_proxy_header("PROXY TCP4 1.2.3.4 5.6.7.8 9 10\r\nGET");
  ASSERT_TRUE(h && *h);
  EXPECT_EQ((*h)->source->to_string(), "1.2.3.4:9");
  EXPECT_EQ((*h)->size, 33U);
}

}  // namespace
}  // namespace relayd
