#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <type_traits>

#include "proxy/http/head.h"

namespace relayd::http {

inline constexpr std::uint32_t kMostChunkLine = 4 * 1024;  // bytes of one, with its extensions
inline constexpr std::uint32_t kMostTrailers = 64 * 1024;  // bytes of all of them, with the empty line

// What follows the head of one message, up to its end. Plain data: a connection's record may hold it, and
// another process may go on with it.
//
// Chunk lines are read by a machine of our own, not by llhttp: llhttp's state holds pointers and 96 bytes,
// and cannot be written down in the middle of a body; and here strictness is a matter of a few states. The
// chunks' data are only counted.
class Body {
 public:
  Body() = default;  // of no message: done
  explicit Body(const RequestHead& head) : Body(head.framing, head.length) {}
  explicit Body(const ResponseHead& head) : Body(head.framing, head.length) {}

  // How many of these bytes belong to the message. Fewer than there are only at its end, or where it is
  // refused: the bytes before the fault are counted, and no more ever are.
  std::size_t advance(std::string_view bytes);

  // How many of the bytes that come next belong to the message whatever they are: they may be moved without
  // being read, and are then told by skip(). 0 where the next byte must be looked at.
  std::uint64_t unread() const;
  // count <= unread()
  void skip(std::uint64_t count);

  // The message ends after unread() bytes: a read of no more leaves what follows it alone.
  bool is_length() const { return state_ == State::kLength; }
  bool done() const { return state_ == State::kDone; }
  // The sender may end here without cutting the message short.
  bool may_end() const { return state_ == State::kDone || state_ == State::kUntilClose; }
  // Empty, or why the rest of the message cannot be framed. Then relayd closes, with 400 where that can still
  // be said. Storage that is never freed.
  std::string_view refusal() const;

  // Whether a body that was read from a saved record can be one.
  bool is_sound() const;

 private:
  // The numbers are part of saved records. What is new goes to the end.
  enum class State : std::uint8_t {
    kDone = 0,
    kRefused = 1,
    kLength = 2,
    kUntilClose = 3,
    // chunk = chunk-size [ chunk-ext ] CRLF chunk-data CRLF (RFC 9112 7.1)
    kSizeBegin = 4,
    kSize = 5,
    kExtensionBegin = 6,
    kExtensionName = 7,
    kValueBegin = 8,
    kValue = 9,
    kQuoted = 10,
    kQuotedPair = 11,
    kQuotedEnd = 12,
    kSizeLf = 13,
    kData = 14,
    kDataCr = 15,
    kDataLf = 16,
    // trailer-section CRLF (RFC 9112 7.1.2)
    kTrailerBegin = 17,
    kTrailerName = 18,
    kTrailerValue = 19,
    kTrailerLf = 20,
    kEndLf = 21,
    kLast = kEndLf,
  };
  enum class Fault : std::uint8_t {  // saved too
    kNone,
    kSize,
    kExtension,
    kLineEnd,
    kLineLength,
    kDataEnd,
    kTrailer,
    kTrailerSize,
    kTrailerLength,
    kLast = kTrailerLength,
  };

  Body(Framing framing, std::uint64_t length);
  bool step(char byte);
  bool step_size(char byte);
  bool step_extension(char byte);
  bool step_trailer(char byte);
  bool step_trailer_name(char byte);
  bool go(State state) {
    state_ = state;
    return true;
  }
  bool refuse(Fault fault) {
    state_ = State::kRefused;
    fault_ = fault;
    return false;
  }

  std::uint64_t remaining_ = 0;  // of the body or the chunk; while a chunk's size is read, that size so far
  std::uint32_t line_ = 0;       // bytes of the chunk line, or of the trailers, so far
  State state_ = State::kDone;
  Fault fault_ = Fault::kNone;
  std::uint8_t name_size_ = 0;  // of the trailer's name so far, up to 255
  std::uint8_t name_fits_ = 0;  // the names that it may still become, as bits (body.cc)
};
static_assert(sizeof(Body) == 16);
static_assert(std::is_trivially_copyable_v<Body>);

}  // namespace relayd::http
