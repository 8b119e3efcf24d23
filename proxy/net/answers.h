#pragma once

#include <string>
#include <string_view>

#include "proxy/http/head.h"

namespace relayd::net {

// A whole response of relayd's own, after which the connection ends. 503 with Retry-After (RFC 9110 10.2.3),
// as the app is being replaced. `reason`: in words, for people; `head`: to a HEAD request, without the body.
std::string answer_text(unsigned status, std::string_view reason, bool head);

// The head with the client's address at the end of X-Forwarded-For, and with X-Forwarded-Proto where it has
// none.
std::string name_client(const http::RequestHead& parsed, std::string_view head, std::string_view address);

// The head of a response (one that parse_response_head has taken), saying instead of what it says about it
// that the connection ends behind this response (RFC 9112 9.6).
std::string as_last_head(std::string_view head);

}  // namespace relayd::net
