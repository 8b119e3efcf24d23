#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace relayd::load {

// The head of one HTTP/1.1 request, as far as the demo's app understands it.
struct Request {
  std::string method;
  std::string path;   // without the query
  std::string query;  // after '?'
  std::string id;     // X-Request-Id
  std::uint64_t body_length = 0;
  bool keep_alive = true;

  // "bytes" of "bytes=100&rate=7"; `fallback` where it is missing or no number.
  std::uint64_t parameter(std::string_view name, std::uint64_t fallback) const;
};

// Nothing where the head is not one that this app can answer (no request line, or a chunked body).
std::optional<Request> parse_request(std::string_view head);

}  // namespace relayd::load
