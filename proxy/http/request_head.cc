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

// The head at the front of `bytes`, whole.
Verdict<Found<RequestHead>> read_front(std::string_view bytes) {
  const std::size_t line_end = bytes.find("\r\n");
  if (line_end == std::string_view::npos) return refuse("no head");
  const auto line = read_request_line(bytes.substr(0, line_end));
  if (!line) return std::unexpected(line.error());
  const std::size_t fields_begin = line_end + 2;
  const auto fields = read_fields(bytes, fields_begin);
  if (!fields) return std::unexpected(fields.error());
  const auto framing = framing_of(*line, *fields);
  if (!framing) return std::unexpected(framing.error());
  if (!(line->plain && fields->plain_framing)) {
    const std::string_view head = bytes.substr(0, fields->end);
    if (const auto same = read_request_again(head, *line, *fields, fields_begin); !same)
      return std::unexpected(same.error());
  }

  const bool modern = line->minor == 1;
  const bool keeps = modern || (fields->connection & kKeepAlive) != 0;
  return Found<RequestHead>{
      .size = fields->end,
      .head = {.length = fields->length,
               .fields_begin = static_cast<std::uint32_t>(fields_begin),
               .forwarded_for = fields->forwarded_for,
               .forwarded_proto = fields->forwarded_proto,
               .method = line->method,
               .framing = *framing,
               .minor = line->minor,
               .keep_alive = keeps && (fields->connection & kClose) == 0,
               .expects_continue = modern && fields->expects_continue,
               .upgrade = modern && fields->names_protocol && (fields->connection & kUpgrade) != 0,
               .forwarded_twin = fields->forwarded_twin}};
}

}  // namespace

Verdict<RequestHead> parse_request_head(std::string_view head) {
  if (head.size() > kMostHead) return refuse("no head");
  const auto found = read_front(head);
  if (!found) return std::unexpected(found.error());
  if (found->size != head.size()) return refuse("more than one head");
  return found->head;
}

// What is refused, or not whole, is looked at again in order, for the fault that comes first.
Verdict<Found<RequestHead>> find_request_head(std::string_view bytes, std::size_t searched) {
  if (searched == 0) {
    if (auto found = read_front(bytes.substr(0, kMostHead))) return found;
  }
  const auto size = find_head_end(bytes, searched);
  if (!size) return std::unexpected(size.error());
  if (*size == 0) return Found<RequestHead>{};
  const auto head = parse_request_head(bytes.substr(0, *size));
  if (!head) return std::unexpected(head.error());
  return Found<RequestHead>{.size = *size, .head = *head};
}

}  // namespace relayd::http
