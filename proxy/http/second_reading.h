#pragma once

#include "proxy/http/fields.h"
#include "proxy/http/request_line.h"

// llhttp's reading of a head that our own has accepted. llhttp in strict mode lets pass some of what must be
// refused (obs-fold, HTTP/0.9, repeated codings, bare line ends in places), so that our own reading comes
// first; and where both accept, they must have understood the same, or the head is refused.
//
// llhttp is shown the start line, the line with the length or the coding, and the empty line. The others have
// been found to be whole, well-formed lines with other names, and whoever reads them learns nothing about the
// boundary; leaving them out takes two thirds of the time away. That llhttp says the same of the whole head
// is tested (tests/http/properties.cc).
//
// Nor is it asked about plain heads (RequestLine::plain, Fields::plain_framing): a start line and a framing
// line of which each byte is one that llhttp takes there, and takes for the same. There are few such bytes,
// and tests/http/plain_test.cc tries them all; most messages are plain. For the files of proxy/http only.
namespace relayd::http {

// Nothing, if llhttp agrees on the end of the head, the version, the length and the coding.
Verdict<void> read_request_again(std::string_view head, const RequestLine& line, const Fields& fields,
                                 std::size_t fields_begin);
Verdict<void> read_response_again(std::string_view head, std::uint16_t status, std::uint8_t minor,
                                  const Fields& fields, std::size_t fields_begin);

}  // namespace relayd::http
