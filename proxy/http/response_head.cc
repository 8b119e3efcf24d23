#include <algorithm>

#include "proxy/http/characters.h"
#include "proxy/http/fields.h"
#include "proxy/http/second_reading.h"

namespace relayd::http {
namespace {

constexpr std::uint16_t kBadGateway = 502;

struct StatusLine {
  std::uint16_t status = 0;
  std::uint8_t minor = 1;
  bool plain = false;  // of a final response, with a phrase in ASCII
};

// RFC 9112 4: HTTP-version SP 3DIGIT SP [ reason-phrase ]. The second space is missing in what many servers
// send without a phrase, and nothing depends on it.
Verdict<StatusLine> read_status_line(std::string_view line) {
  constexpr std::string_view kPrefix = "HTTP/1.";
  constexpr std::size_t kDigits = 9;  // where the status begins
  constexpr std::size_t kPhrase = 12;
  if (line.size() < kPhrase || !line.starts_with(kPrefix) || (line[7] != '0' && line[7] != '1') ||
      line[8] != ' ')
    return refuse("a malformed status line");
  unsigned status = 0;
  for (const char c : line.substr(kDigits, kPhrase - kDigits)) {
    if (!is_digit(c)) return refuse("a malformed status");
    status = status * 10 + static_cast<unsigned>(c - '0');
  }
  if (status < 100) return refuse("a status below 100");
  if (line.size() > kPhrase && line[kPhrase] != ' ') return refuse("a malformed status");
  if (span_of_value(line) != line.size()) return refuse("a control byte in the status line");
  const bool ascii = std::ranges::all_of(line.substr(kPhrase), [](char c) { return c >= ' ' && c <= '~'; });
  return StatusLine{.status = static_cast<std::uint16_t>(status),
                    .minor = static_cast<std::uint8_t>(line[7] - '0'),
                    .plain = status >= 200 && line.size() > kPhrase && ascii};
}

Verdict<ResponseKind> kind_of(const StatusLine& line, RequestContext request) {
  if (line.status == 101) {
    // RFC 9110 7.8: a server must not switch unasked; nor does HTTP/1.0 know it
    if (!request.upgrade || line.minor == 0) return refuse("101 to a request that did not ask for it");
    return ResponseKind::kTunnel;
  }
  if (line.status < 200) return ResponseKind::kInterim;
  return request.connect && line.status < 300 ? ResponseKind::kTunnel : ResponseKind::kFinal;
}

// RFC 9112 6.3, in its order.
Framing framing_of(std::uint16_t status, ResponseKind kind, const Fields& fields, RequestContext request) {
  if (kind == ResponseKind::kTunnel) return Framing::kUntilClose;
  if (request.head || kind == ResponseKind::kInterim || status == 204 || status == 304) return Framing::kNone;
  if (fields.chunked) return Framing::kChunked;
  if (!fields.has_length) return Framing::kUntilClose;
  return fields.length == 0 ? Framing::kNone : Framing::kLength;
}

// The head at the front of `bytes`, whole.
Verdict<Found<ResponseHead>> read_front(std::string_view bytes, RequestContext request) {
  const std::size_t line_end = bytes.find("\r\n");
  if (line_end == std::string_view::npos) return refuse("no head");
  const auto line = read_status_line(bytes.substr(0, line_end));
  if (!line) return std::unexpected(line.error());
  const auto kind = kind_of(*line, request);
  if (!kind) return std::unexpected(kind.error());
  const auto fields = read_fields(bytes, line_end + 2);
  if (!fields) return std::unexpected(fields.error());
  if (fields->chunked && line->minor == 0) return refuse("Transfer-Encoding in an HTTP/1.0 response");
  if (!(line->plain && fields->plain_framing)) {
    const std::string_view head = bytes.substr(0, fields->end);
    if (const auto same = read_response_again(head, line->status, line->minor, *fields, line_end + 2); !same)
      return std::unexpected(same.error());
  }

  const Framing framing = framing_of(line->status, *kind, *fields, request);
  const bool keeps = line->minor == 1 || (fields->connection & kKeepAlive) != 0;
  const bool may_keep = keeps && (fields->connection & kClose) == 0 && framing != Framing::kUntilClose;
  return Found<ResponseHead>{.size = fields->end,
                             .head = {.length = framing == Framing::kLength ? fields->length : 0,
                                      .fields_begin = static_cast<std::uint32_t>(line_end + 2),
                                      .status = line->status,
                                      .kind = *kind,
                                      .framing = framing,
                                      .minor = line->minor,
                                      .keep_alive = *kind == ResponseKind::kInterim || may_keep}};
}

std::unexpected<Refusal> bad_gateway(Refusal refusal) {
  refusal.status = kBadGateway;
  return std::unexpected(refusal);
}

}  // namespace

Verdict<ResponseHead> parse_response_head(std::string_view head, RequestContext request) {
  if (head.size() > kMostHead) return bad_gateway({.reason = "no head"});
  const auto found = read_front(head, request);
  if (!found) return bad_gateway(found.error());
  if (found->size != head.size()) return bad_gateway({.reason = "more than one head"});
  return found->head;
}

// What is refused, or not whole, is looked at again in order, for the fault that comes first.
Verdict<Found<ResponseHead>> find_response_head(std::string_view bytes, RequestContext request) {
  if (auto found = read_front(bytes.substr(0, kMostHead), request)) return found;
  const auto size = find_head_end(bytes, 0);
  if (!size) return bad_gateway(size.error());
  if (*size == 0) return Found<ResponseHead>{};
  const auto head = parse_response_head(bytes.substr(0, *size), request);
  if (!head) return std::unexpected(head.error());
  return Found<ResponseHead>{.size = *size, .head = *head};
}

}  // namespace relayd::http
