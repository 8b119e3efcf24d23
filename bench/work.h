#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

// What the load and the backend of the benchmark say to each other. The first byte of a connection tells what
// it is for, so that one backend behind one listener serves every kind of work.
namespace relayd::bench {

inline constexpr char kEcho = 'e';  // every byte comes back, the first one too
inline constexpr char kOnce = 'o';  // kOnceSize bytes, as many back, and the backend closes
inline constexpr char kPage =
    'p';  // kPageRequest bytes, kPageAnswer bytes back, again and again: as HTTP looks
inline constexpr char kBulk = 'b';  // BulkRequest after BulkRequest, each answered by its number of bytes

inline constexpr char kHttp =
    'G';  // kHttpRequest, and the backend answers with an HTTP response, again and again

inline constexpr std::size_t kOnceSize = 64;
inline constexpr std::size_t kPageRequest = 160;
inline constexpr std::size_t kPageAnswer = 1200;

// A proxy in HTTP mode may write heads anew, so no length is agreed on: a request ends with an empty line,
// and the body of the response with a byte that occurs nowhere else.
inline constexpr std::string_view kHttpRequest =
    "GET /index.html HTTP/1.1\r\nHost: bench.example\r\nUser-Agent: bench_load\r\nAccept: "
    "text/html,*/*;q=0.8\r\n"
    "Accept-Language: en\r\nCookie: session=0123456789abcdef\r\n\r\n";
inline constexpr std::size_t kHttpBody = 1024;
inline constexpr char kLastOfBody = '\x04';

struct BulkRequest {
  char kind = kBulk;
  char unused[7] = {};
  std::uint64_t bytes = 0;  // of the answer; byte order of this machine
};
static_assert(sizeof(BulkRequest) == 16);

}  // namespace relayd::bench
