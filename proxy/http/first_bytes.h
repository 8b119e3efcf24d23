#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace relayd::http {

// A request line above this is not waited for, in bytes; RFC 9112 3 asks for 8000 at least.
inline constexpr std::size_t kMostFirstLine = 16 * 1024;

enum class Guess : std::uint8_t { kMore, kYes, kNo };

// Whether a connection's first bytes are an HTTP/1 request line. kNo comes with the first byte that none can
// have; a connection of which it is said can be relayed as it is. kYes comes with the whole line only: what
// begins like one may be another text protocol, which would be answered 400. The method must be of
// capital letters, "-" and "_", as every registered one is (RFC 9110 16.1.1), so that "SSH-2.0" and the like
// are told early. The preface of HTTP/2 is kNo (RFC 9113 3.4).
Guess looks_like_http1_request(std::string_view first_bytes);

}  // namespace relayd::http
