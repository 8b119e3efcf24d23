#include "proxy/http/fields.h"

#include <algorithm>

#include "proxy/http/characters.h"

namespace relayd::http {
namespace {

constexpr std::uint64_t kMostLength = ~std::uint64_t{0} >> 1;
constexpr std::size_t kMostLengthDigits = 19;  // of 2^63 - 1

constexpr std::size_t kPlainLengthDigits = 18;  // which every parser can hold

struct Line {
  std::string_view name;
  std::string_view raw_value;  // with the blanks around it

  std::string_view value() const { return trimmed(raw_value); }
  // The blanks around the value are one space before it.
  bool is_tight() const { return raw_value.starts_with(' ') && raw_value.size() == value().size() + 1; }
  // With its CRLF.
  std::string_view whole() const { return {name.data(), name.size() + 1 + raw_value.size() + 2}; }
};

// Why there is no name at the front of `line`, whose first byte that is no kTokenChar is at `stop`.
std::string_view fault_of_name(std::string_view line, std::size_t stop) {
  // obs-fold (RFC 9112 5.2), or white space before the first field (2.2)
  if (is_blank(line.front())) return "a field line begins with white space (obs-fold)";
  if (line.substr(stop).starts_with("\r\n")) return "a field line has no colon";
  // RFC 9112 5.1: white space between name and colon must be rejected
  if (is_blank(line[stop])) return "white space before the colon of a field line";
  return line[stop] == ':' ? "a field line has no name" : "a byte in a field name that must not be there";
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
Refusal read_coding(std::string_view value, Fields& fields) {
  if (fields.chunked) return {.reason = "more than one Transfer-Encoding"};
  if (equals_ignoring_case(value, "chunked")) {
    fields.chunked = true;
    return {};
  }
  const std::size_t comma = value.rfind(',');
  const bool chunked_last =
      comma != std::string_view::npos && equals_ignoring_case(trimmed(value.substr(comma + 1)), "chunked");
  const std::string_view before = chunked_last ? trimmed(value.substr(0, comma)) : std::string_view{};
  // A coding that is not understood, but leaves no doubt about the end: RFC 9112 6.1 asks for 501.
  if (!before.empty() && span_of(kTokenChar, before) == before.size() &&
      !equals_ignoring_case(before, "chunked"))
    return {.status = 501, .reason = "a transfer coding other than chunked"};
  return {.reason = "Transfer-Encoding is not chunked, once and last"};
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

void note_framing(std::string_view head, const Line& line, bool plain, Fields& fields) {
  fields.framing_line = span_in(head, line.whole());
  fields.plain_framing = line.is_tight() && plain;
}

// The same but for underscores in place of some '-'. Both have the same size, `name` is in lower case.
bool is_twin(std::string_view written, std::string_view name) {
  return std::ranges::equal(written, name,
                            [](char w, char n) { return to_lower(w) == n || (w == '_' && n == '-'); });
}

// The names that matter have different lengths, or differ in their first letter. The refusal has no reason
// where there is none.
Refusal note(std::string_view head, const Line& line, Fields& fields) {
  const auto is = [&line](std::string_view name) { return is_name(line.name, name); };
  switch (line.name.size()) {
    case 4:
      if (is("host")) return {.reason = read_host(line.value(), fields)};
      break;
    case 6:
      if (is("expect")) fields.expects_continue |= equals_ignoring_case(line.value(), "100-continue");
      break;
    case 7:
      if (is("upgrade")) fields.names_protocol = true;
      break;
    case 10:
      if (is("connection")) fields.connection |= connection_options(line.value());
      break;
    case 14:
      if (is("content-length")) {
        const std::string_view fault = read_length(line.value(), fields);
        if (fault.empty()) note_framing(head, line, line.value().size() <= kPlainLengthDigits, fields);
        return {.reason = fault};
      }
      break;
    case 15:
      if (is("x-forwarded-for")) {
        fields.forwarded_for = span_in(head, line.value());
      } else {
        fields.forwarded_twin |= is_twin(line.name, "x-forwarded-for");
      }
      break;
    case 17:
      if (is("transfer-encoding")) {
        const Refusal refusal = read_coding(line.value(), fields);
        if (refusal.reason.empty()) note_framing(head, line, line.value() == "chunked", fields);
        return refusal;
      }
      if (is("x-forwarded-proto")) {
        fields.forwarded_proto = span_in(head, line.value());
      } else {
        fields.forwarded_twin |= is_twin(line.name, "x-forwarded-proto");
      }
      break;
    default:
      break;
  }
  return {};
}

}  // namespace

// RFC 9112 5: field-name ":" OWS field-value OWS, each byte looked at once.
Verdict<Fields> read_fields(std::string_view bytes, std::size_t begin) {
  Fields fields;
  for (std::string_view rest = bytes.substr(begin);;) {
    const std::size_t colon = span_of_name(rest);
    if (colon == rest.size()) return refuse("a line of the head does not end in CRLF");
    if (colon == 0 && rest.starts_with("\r\n")) {
      fields.end = static_cast<std::uint32_t>(bytes.size() - rest.size() + 2);
      break;
    }
    if (colon == 0 || rest[colon] != ':') return refuse(fault_of_name(rest, colon));
    const char* const name = rest.data();
    rest.remove_prefix(colon + 1);
    const std::size_t size = span_of_value(rest);
    const Line line{.name = {name, colon}, .raw_value = {rest.data(), size}};
    rest.remove_prefix(size);
    if (!rest.starts_with("\r\n")) return refuse("a control byte in a field value");
    rest.remove_prefix(2);
    if (const Refusal refusal = note(bytes, line, fields); !refusal.reason.empty())
      return std::unexpected(refusal);
  }
  // RFC 9112 6.3, item 3: an attempt at request smuggling or response splitting
  if (fields.chunked && fields.has_length) return refuse("both Content-Length and Transfer-Encoding");
  return fields;
}

}  // namespace relayd::http
