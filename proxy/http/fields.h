#pragma once

#include "proxy/http/head.h"

// The field lines of a head, of requests and responses alike. For the files of proxy/http only.
namespace relayd::http {

enum ConnectionOption : std::uint8_t { kClose = 1, kKeepAlive = 2, kUpgrade = 4 };  // RFC 9110 7.6.1

// What the field lines say about the message's boundary and the connection.
struct Fields {
  std::uint64_t length = 0;  // at most 2^63 - 1
  Span forwarded_for;
  Span forwarded_proto;
  Span framing_line;            // Content-Length or Transfer-Encoding, with its CRLF
  std::uint32_t end = 0;        // behind the empty line
  std::uint8_t connection = 0;  // ConnectionOption
  std::uint8_t hosts = 0;       // 0, 1, or 2 for more
  bool has_length = false;
  bool chunked = false;
  bool expects_continue = false;
  bool names_protocol = false;  // an Upgrade field is there
  bool forwarded_twin = false;  // RequestHead::forwarded_twin
  // The framing line, if any, is written as everybody writes it: one space, then "chunked" or at most 18
  // digits, and nothing behind.
  bool plain_framing = true;
};

// `begin` is the offset behind the start line. Reads up to the first empty line, which is missing where the
// head is not whole yet; that is refused too.
Verdict<Fields> read_fields(std::string_view bytes, std::size_t begin);

}  // namespace relayd::http
