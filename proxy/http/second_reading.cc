#include "proxy/http/second_reading.h"

#include <llhttp.h>

namespace relayd::http {
namespace {

// Stops at the end of the head, so that its state lives on the stack during one call only.
const llhttp_settings_t* settings() {
  static const llhttp_settings_t stop_behind_head = [] {
    llhttp_settings_t result;
    llhttp_settings_init(&result);
    result.on_headers_complete = [](llhttp_t*) -> int { return HPE_PAUSED; };
    return result;
  }();
  return &stop_behind_head;
}

// `first` stands for the start line.
llhttp_errno_t read(llhttp_t& parser, llhttp_type_t type, std::string_view first, std::string_view head,
                    const Fields& fields) {
  llhttp_init(&parser, type, settings());
  llhttp_errno_t end = HPE_OK;
  for (const std::string_view part : {first, fields.framing_line.in(head), head.substr(head.size() - 2)}) {
    if (end == HPE_OK && !part.empty()) end = llhttp_execute(&parser, part.data(), part.size());
  }
  return end;
}

Verdict<void> compare(const llhttp_t& parser, llhttp_errno_t end, std::string_view head, std::uint8_t minor,
                      const Fields& fields) {
  if (end != HPE_PAUSED) {
    const char* const reason = llhttp_get_error_reason(&parser);
    return refuse(end == HPE_OK || reason == nullptr ? "the head has no end" : reason);
  }
  const bool has_length = (parser.flags & F_CONTENT_LENGTH) != 0;
  const bool has_coding = (parser.flags & F_TRANSFER_ENCODING) != 0;
  const bool chunked = (parser.flags & F_CHUNKED) != 0;
  const bool same = llhttp_get_error_pos(&parser) == head.data() + head.size() && parser.http_major == 1 &&
                    parser.http_minor == minor && has_length == fields.has_length &&
                    parser.content_length == fields.length && has_coding == fields.chunked &&
                    chunked == fields.chunked;
  if (!same) return refuse("the head can be read in two ways");
  return {};
}

}  // namespace

Verdict<void> read_request_again(std::string_view head, const RequestLine& line, const Fields& fields,
                                 std::size_t fields_begin) {
  llhttp_t parser;
  llhttp_errno_t end = HPE_INVALID_URL;
  if (line.ascii_target) end = read(parser, HTTP_REQUEST, head.substr(0, fields_begin), head, fields);
  // llhttp knows a list of methods, and no target beyond ASCII. Such a line has been read by ourselves;
  // llhttp reads the rest below one that it knows.
  const bool unknown_method =
      line.method == Method::kOther && (end == HPE_INVALID_METHOD || end == HPE_INVALID_CONSTANT);
  if (!line.ascii_target || unknown_method) {
    const std::string_view stand_in = line.minor == 0 ? "POST / HTTP/1.0\r\n" : "POST / HTTP/1.1\r\n";
    end = read(parser, HTTP_REQUEST, stand_in, head, fields);
  }
  return compare(parser, end, head, line.minor, fields);
}

Verdict<void> read_response_again(std::string_view head, std::uint16_t status, std::uint8_t minor,
                                  const Fields& fields, std::size_t fields_begin) {
  llhttp_t parser;
  const llhttp_errno_t end = read(parser, HTTP_RESPONSE, head.substr(0, fields_begin), head, fields);
  auto verdict = compare(parser, end, head, minor, fields);
  if (verdict && parser.status_code != status) return refuse("the head can be read in two ways");
  return verdict;
}

}  // namespace relayd::http
