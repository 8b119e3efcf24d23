#pragma once

#include <cstddef>
#include <cstdint>

// What the load and the backend of the benchmark say to each other. The first byte of a connection tells what
// it is for, so that one backend behind one listener serves every kind of work.
namespace relayd::bench {

inline constexpr char kEcho = 'e';  // every byte comes back, the first one too
inline constexpr char kOnce = 'o';  // kOnceSize bytes, as many back, and the backend closes
inline constexpr char kPage =
    'p';  // kPageRequest bytes, kPageAnswer bytes back, again and again: as HTTP looks
inline constexpr char kBulk = 'b';  // BulkRequest after BulkRequest, each answered by its number of bytes

inline constexpr std::size_t kOnceSize = 64;
inline constexpr std::size_t kPageRequest = 160;
inline constexpr std::size_t kPageAnswer = 1200;

struct BulkRequest {
  char kind = kBulk;
  char unused[7] = {};
  std::uint64_t bytes = 0;  // of the answer; byte order of this machine
};
static_assert(sizeof(BulkRequest) == 16);

}  // namespace relayd::bench
