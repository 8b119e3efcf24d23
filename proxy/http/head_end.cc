#include <cstring>

#include "proxy/http/head.h"

namespace relayd::http {

std::size_t skip_empty_lines(std::string_view bytes) {
  std::size_t at = 0;
  while (at + 2 <= bytes.size() && bytes[at] == '\r' && bytes[at + 1] == '\n') at += 2;
  return at;
}

// Looks at line ends only: memchr covers the rest at the speed of memory.
Verdict<std::size_t> find_head_end(std::string_view bytes, std::size_t searched) {
  const std::string_view head = bytes.substr(0, kMostHead);
  const char* const begin = head.data();
  for (std::size_t at = searched; at < head.size();) {
    const void* const found = std::memchr(begin + at, '\n', head.size() - at);
    if (found == nullptr) break;
    const auto feed = static_cast<std::size_t>(static_cast<const char*>(found) - begin);
    // RFC 9112 2.2 lets a recipient take it for a line end; who does, and who does not, see different heads
    if (feed == 0 || begin[feed - 1] != '\r') return refuse("a line of the head ends in a bare LF");
    if (feed == 1 || begin[feed - 2] == '\n') return feed + 1;
    at = feed + 1;
  }
  if (bytes.size() >= kMostHead) return refuse("the head is larger than 64 KiB", 431);
  return 0;
}

}  // namespace relayd::http
