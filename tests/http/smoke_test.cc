#include <gtest/gtest.h>
#include "proxy/http/head.h"
#include "proxy/http/body.h"
#include "proxy/http/first_bytes.h"
using namespace relayd::http;
TEST(S,X){
 auto r=parse_request_head("GET / HTTP/1.1\r\nHost: x\r\n\r\n"); ASSERT_TRUE(r)<<r.error().reason;
 r=parse_request_head("BREW /\xff HTTP/1.1\r\nHost: x\r\n\r\n"); ASSERT_TRUE(r)<<r.error().reason;
}
