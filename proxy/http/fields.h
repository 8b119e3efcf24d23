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
  std::uint8_t connection = 0;  // ConnectionOption
  std::uint8_t hosts = 0;       // 0, 1, or 2 for more
  bool has_length = false;
  bool chunked = false;
  bool expects_continue = false;
  bool names_protocol = false;  // an Upgrade field is there
};

// `begin` is the offset behind the start line. Every line of the head ends in CRLF, and the last one is
// empty.
Verdict<Fields> read_fields(std::string_view head, std::size_t begin);

}  // namespace relayd::http
