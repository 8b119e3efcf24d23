#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

// What one connection through the plane does, from its first byte to its end, made from a seed alone.
namespace relayd::net::test {

// Sides and directions share their numbers, as in the plane: stream[kFromClient] is written by the client.
inline constexpr unsigned kFromClient = 0;
inline constexpr unsigned kFromBackend = 1;

// What a writer waits for before a message, or before its FIN.
enum class Gate : std::uint8_t {
  kNone,
  kDrained,    // the peer has read all that was written before: the connection goes idle in between
  kAnswered,   // the peer's messages up to this one are read: ping-pong
  kPeerEnded,  // the peer's FIN is read: half a connection goes on
};

struct Message {
  std::uint64_t end = 0;  // position in the stream
  std::size_t chunk = 1;  // at most so many bytes a write
  Gate gate = Gate::kNone;
};

// The reader stops at this position.
struct Stall {
  std::uint64_t at = 0;
  bool deep =
      false;  // until everything between writer and reader is full; else until the writer once blocked
};

// One direction.
struct Stream {
  std::vector<Message> messages;
  std::uint64_t noise = 0;  // its bytes are noise_at(noise + position)
  std::vector<Stall> stalls;
  std::size_t read_chunk = 1;
  Gate end_gate = Gate::kNone;  // before the FIN
  int send_buffer = 0;          // SO_SNDBUF of its writer; 0: the kernel's choice
  int receive_buffer = 0;       // SO_RCVBUF of its reader

  std::uint64_t total() const { return messages.empty() ? 0 : messages.back().end; }
};

enum class Ending : std::uint8_t {
  kOrderly,  // both sides send FIN and read the other's
  kReset,    // one side closes with RST
  kClose,    // one side closes both ways, whatever is unread
};

struct Script {
  std::uint64_t seed = 0;
  Stream stream[2];
  Ending ending = Ending::kOrderly;
  // Of an ending that is not orderly:
  unsigned breaker = kFromClient;    // the side that does it,
  std::uint64_t breaks_written = 0;  // when it has written so much
  std::uint64_t breaks_read = 0;     // and read so much,
  bool breaks_ended = false;         // and, where true, has sent its FIN
  bool survivor_writes_on = false;   // the other side writes the rest of its stream before it closes
};

Script make_script(std::uint64_t seed);
std::string describe(const Script& script);

// Bytes of an endless stream whose period is a prime beyond every buffer: at most `most` (not 0) of them,
// from `position` on. No shift of a stream by less than a period, and no other stream, has the same bytes.
std::string_view noise_at(std::uint64_t position, std::size_t most);

}  // namespace relayd::net::test
