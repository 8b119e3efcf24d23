#include "proxy/http/fields.h"

#include "proxy/http/characters.h"

namespace relayd::http {
namespace {

constexpr std::uint64_t kMostLength = ~std::uint64_t{0} >> 1;
constexpr std::size_t kMostLengthDigits = 19;  // of 2^63 - 1

struct Line {
  std::string_view name;
  std::string_view value;  // without the blanks around it
};

// RFC 9112 5: field-name ":" OWS field-value OWS.
Verdict<Line> read_line(std::string_view line) {
  // obs-fold (RFC 9112 5.2), or white space before the first field (2.2)
  if (is_blank(line.front())) return refuse("a field line begins with white space (obs-fold)");
  const std::size_t colon = span_of(kTokenChar, line);
  if (colon == line.size()) return refuse("a field line has no colon");
  if (line[colon] != ':') {
    // RFC 9112 5.1: white space between name and colon must be rejected
    return refuse(is_blank(line[colon]) ? "white space before the colon of a field line"
                                        : "a byte in a field name that must not be there");
  }
  if (colon == 0) return refuse("a field line has no name");
  const std::string_view value = line.substr(colon + 1);
  if (span_of_value(value) != value.size()) return refuse("a control byte in a field value");
  return Line{line.substr(0, colon), trimmed(value)};
}

// RFC 9112 6.3, item 5. Lists and repetitions of the same number may be taken for one number there; whoever
// sends them is broken, and what stands behind relayd may see it otherwise.
std::string_view read_length(std::string_view value, Fields& fields) {
  if (fields.has_length) return "more than one Content-Length";
  if (value.empty() || value.size() > kMostLengthDigits) return "a malformed Content-Length";
  std::uint64_t length = 0;  // 19 digits cannot overflow
  for (const char c : value) {
    if (!is_digit(c)) return "a malformed Content-Length";
    length = length * 10 + static_cast<unsigned>(c - '0');
  }
  if (length > kMostLength) return "a Content-Length above 2^63 - 1";
  fields.length = length;
  fields.has_length = true;
  return {};
}

// RFC 9112 6.1. One line with the one word is all that is relayed: every other way to write it has been read
// in two ways by somebody.
Verdict<bool> read_coding(std::string_view value, const Fields& fields) {
  if (fields.chunked) return refuse("more than one Transfer-Encoding");
  if (equals_ignoring_case(value, "chunked")) return true;
  const std::size_t comma = value.rfind(',');
  const bool chunked_last =
      comma != std::string_view::npos && equals_ignoring_case(trimmed(value.substr(comma + 1)), "chunked");
  const std::string_view before = chunked_last ? trimmed(value.substr(0, comma)) : std::string_view{};
  // A coding that is not understood, but leaves no doubt about the end: RFC 9112 6.1 asks for 501.
  if (!before.empty() && span_of(kTokenChar, before) == before.size() &&
      !equals_ignoring_case(before, "chunked"))
    return refuse("a transfer coding other than chunked", 501);
  return refuse("Transfer-Encoding is not chunked, once and last");
}

std::uint8_t connection_options(std::string_view list) {
  std::uint8_t options = 0;
  while (!list.empty()) {
    const std::size_t comma = list.find(',');
    const std::string_view option = trimmed(list.substr(0, comma));
    if (equals_ignoring_case(option, "close")) options |= kClose;
    if (equals_ignoring_case(option, "keep-alive")) options |= kKeepAlive;
    if (equals_ignoring_case(option, "upgrade")) options |= kUpgrade;
    list = comma == std::string_view::npos ? std::string_view{} : list.substr(comma + 1);
  }
  return options;
}

// RFC 9112 3.2: more than one Host, or an invalid one, is answered with 400.
std::string_view read_host(std::string_view value, Fields& fields) {
  if (fields.hosts++ != 0) return "more than one Host";
  if (span_of(kHostChar, value) != value.size()) return "a malformed Host";
  return {};
}

Span span_in(std::string_view head, std::string_view part) {
  return {static_cast<std::uint32_t>(part.data() - head.data()), static_cast<std::uint32_t>(part.size())};
}

// The names that matter have different lengths, or differ in their first letter.
Verdict<void> note(std::string_view head, const Line& line, Fields& fields) {
  const auto is = [&line](std::string_view name) { return equals_ignoring_case(line.name, name); };
  std::string_view fault;
  switch (line.name.size()) {
    case 4:
      if (is("host")) fault = read_host(line.value, fields);
      break;
    case 6:
      if (is("expect")) fields.expects_continue |= equals_ignoring_case(line.value, "100-continue");
      break;
    case 7:
      if (is("upgrade")) fields.names_protocol = true;
      break;
    case 10:
      if (is("connection")) fields.connection |= connection_options(line.value);
      break;
    case 14:
      if (is("content-length")) fault = read_length(line.value, fields);
      break;
    case 15:
      if (is("x-forwarded-for")) fields.forwarded_for = span_in(head, line.value);
      break;
    case 17:
      if (is("transfer-encoding")) {
        const auto chunked = read_coding(line.value, fields);
        if (!chunked) return std::unexpected(chunked.error());
        fields.chunked = true;
      } else if (is("x-forwarded-proto")) {
        fields.forwarded_proto = span_in(head, line.value);
      }
      break;
    default:
      break;
  }
  if (!fault.empty()) return refuse(fault);
  return {};
}

}  // namespace

Verdict<Fields> read_fields(std::string_view head, std::size_t begin) {
  Fields fields;
  for (std::string_view rest = head.substr(begin); rest != "\r\n";) {
    const std::size_t end = rest.find('\n');
    // find_head_end has seen to it; checked again, since everything below relies on it
    if (end == std::string_view::npos || end < 2 || rest[end - 1] != '\r')
      return refuse("a line of the head does not end in CRLF");
    const auto line = read_line(rest.substr(0, end - 1));
    if (!line) return std::unexpected(line.error());
    const bool framed = fields.has_length || fields.chunked;
    if (const auto noted = note(head, *line, fields); !noted) return std::unexpected(noted.error());
    if (framed != (fields.has_length || fields.chunked))
      fields.framing_line = span_in(head, rest.substr(0, end + 1));
    rest.remove_prefix(end + 1);
  }
  // RFC 9112 6.3, item 3: an attempt at request smuggling or response splitting
  if (fields.chunked && fields.has_length) return refuse("both Content-Length and Transfer-Encoding");
  return fields;
}

}  // namespace relayd::http
