#pragma once

#include "proxy/http/head.h"

// The request line (RFC 9112 3). For the files of proxy/http only.
namespace relayd::http {

struct RequestLine {
  Method method = Method::kOther;
  std::uint8_t minor = 1;
  bool ascii_target = true;
  bool plain = false;  // a known method, not CONNECT, and a path of kPathChar
};

// `line` is without its CRLF.
Verdict<RequestLine> read_request_line(std::string_view line);

// Whether a request target may be this, or begin with this. `connect`: the method is CONNECT, whose target is
// an authority (RFC 9112 3.2.3); all others have a path, an absolute URI, or "*". Every byte is a
// kTargetChar.
enum class TargetFit : std::uint8_t { kNo, kBeginning, kWhole };
TargetFit fit_target(std::string_view target, bool connect);

}  // namespace relayd::http
