#include "proxy/http/fields.h"
#include "proxy/http/request_line.h"
#include "proxy/http/second_reading.h"

namespace relayd::http {
namespace {

// What the fields mean depends on the method and the version.
Verdict<Framing> framing_of(const RequestLine& line, const Fields& fields) {
  if (fields.chunked && line.minor == 0) {
    return refuse("Transfer-Encoding in an HTTP/1.0 request");  // RFC 9112 6.1: the framing is faulty
  }
  // RFC 9112 3.2
  if (line.minor == 1 && fields.hosts == 0) return refuse("an HTTP/1.1 request without Host");
  const bool has_body = fields.chunked || fields.length > 0;
  // RFC 9110 9.3.6: it has no content; what follows is the tunnel's, or nobody's
  if (line.method == Method::kConnect && has_body) return refuse("CONNECT with a body");
  if (!has_body) return Framing::kNone;  // RFC 9112 6.3, item 7
  return fields.chunked ? Framing::kChunked : Framing::kLength;
}

}  // namespace

Verdict<RequestHead> parse_request_head(std::string_view head) {
  const std::size_t line_end = head.find("\r\n");
  if (line_end == std::string_view::npos || head.size() > kMostHead) return refuse("no head");
  const auto line = read_request_line(head.substr(0, line_end));
  if (!line) return std::unexpected(line.error());
  const std::size_t fields_begin = line_end + 2;
  const auto fields = read_fields(head, fields_begin);
  if (!fields) return std::unexpected(fields.error());
  const auto framing = framing_of(*line, *fields);
  if (!framing) return std::unexpected(framing.error());
  if (const auto same = read_request_again(head, *line, *fields, fields_begin); !same)
    return std::unexpected(same.error());

  const bool modern = line->minor == 1;
  const bool keeps = modern || (fields->connection & kKeepAlive) != 0;
  return RequestHead{.length = fields->length,
                     .fields_begin = static_cast<std::uint32_t>(fields_begin),
                     .forwarded_for = fields->forwarded_for,
                     .forwarded_proto = fields->forwarded_proto,
                     .method = line->method,
                     .framing = *framing,
                     .minor = line->minor,
                     .keep_alive = keeps && (fields->connection & kClose) == 0,
                     .expects_continue = modern && fields->expects_continue,
                     .upgrade = modern && fields->names_protocol && (fields->connection & kUpgrade) != 0};
}

}  // namespace relayd::http
