#include "proxy/http/body.h"

#include <algorithm>
#include <iterator>

#include "proxy/http/characters.h"

namespace relayd::http {
namespace {

constexpr std::uint32_t kMostSizeDigits = 15;  // a size below 2^60: no sum of sizes overflows

// What a trailer must not say (RFC 9110 6.5.1).
constexpr std::string_view kLengthNames[] = {"content-length", "transfer-encoding"};
constexpr std::uint8_t kAllNames = (1U << std::size(kLengthNames)) - 1;

int hex_value(char c) {
  if (is_digit(c)) return c - '0';
  const char lower = to_lower(c);
  return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

}  // namespace

Body::Body(Framing framing, std::uint64_t length) {
  switch (framing) {
    case Framing::kNone:
      break;
    case Framing::kLength:
      state_ = length == 0 ? State::kDone : State::kLength;
      remaining_ = length;
      break;
    case Framing::kChunked:
      state_ = State::kSizeBegin;
      break;
    case Framing::kUntilClose:
      state_ = State::kUntilClose;
      break;
  }
}

std::size_t Body::advance(std::string_view bytes) {
  std::size_t at = 0;
  while (at < bytes.size() && state_ != State::kDone && state_ != State::kRefused) {
    if (const std::uint64_t free = unread(); free > 0) {
      const auto count = static_cast<std::size_t>(std::min<std::uint64_t>(free, bytes.size() - at));
      skip(count);
      at += count;
    } else {
      if (!step(bytes[at])) break;
      ++at;
    }
  }
  return at;
}

std::uint64_t Body::unread() const {
  if (state_ == State::kUntilClose) return ~std::uint64_t{0};
  return state_ == State::kLength || state_ == State::kData ? remaining_ : 0;
}

void Body::skip(std::uint64_t count) {
  if (state_ != State::kLength && state_ != State::kData) return;
  remaining_ -= count;
  if (remaining_ == 0) state_ = state_ == State::kLength ? State::kDone : State::kDataCr;
}

// Takes one byte that must be looked at; false where it does not belong here.
bool Body::step(char byte) {
  switch (state_) {
    case State::kSizeBegin:
    case State::kSize:
      return step_size(byte);
    case State::kSizeLf:
      if (byte != '\n') return refuse(Fault::kLineEnd);
      line_ = 0;
      return go(remaining_ == 0 ? State::kTrailerBegin : State::kData);  // a size of 0: last-chunk
    case State::kDataCr:
      return byte == '\r' ? go(State::kDataLf) : refuse(Fault::kDataEnd);
    case State::kDataLf:
      return byte == '\n' ? go(State::kSizeBegin) : refuse(Fault::kDataEnd);
    case State::kTrailerBegin:
    case State::kTrailerName:
    case State::kTrailerValue:
    case State::kTrailerLf:
    case State::kEndLf:
      return step_trailer(byte);
    default:
      return step_extension(byte);
  }
}

// 1*HEXDIG, and nothing around it: white space (BWS) there is what senders and recipients disagree about.
bool Body::step_size(char byte) {
  if (const int value = hex_value(byte); value >= 0) {
    if (line_ == kMostSizeDigits) return refuse(Fault::kSize);
    ++line_;
    remaining_ = remaining_ * 16 + static_cast<unsigned>(value);
    return go(State::kSize);
  }
  if (state_ == State::kSizeBegin) return refuse(Fault::kSize);
  if (byte == '\r') return go(State::kSizeLf);
  if (byte != ';') return refuse(Fault::kSize);
  ++line_;
  return go(State::kExtensionBegin);
}

// *( ";" chunk-ext-name [ "=" ( token / quoted-string ) ] ) (RFC 9112 7.1.1), again without BWS. What an
// extension means is not looked at; that its bytes are the right ones keeps a line end from hiding in it.
bool Body::step_extension(char byte) {
  if (++line_ > kMostChunkLine) return refuse(Fault::kLineLength);
  const bool token = is_a(kTokenChar, byte);
  switch (state_) {
    case State::kExtensionBegin:
      return token ? go(State::kExtensionName) : refuse(Fault::kExtension);
    case State::kExtensionName:
      if (byte == '=') return go(State::kValueBegin);
      break;
    case State::kValueBegin:
      if (byte == '"') return go(State::kQuoted);
      return token ? go(State::kValue) : refuse(Fault::kExtension);
    case State::kQuoted:
      if (byte == '"') return go(State::kQuotedEnd);
      if (byte == '\\') return go(State::kQuotedPair);
      return is_a(kValueChar, byte) ? true : refuse(Fault::kExtension);
    case State::kQuotedPair:
      return is_a(kValueChar, byte) ? go(State::kQuoted) : refuse(Fault::kExtension);
    default:
      break;
  }
  if (byte == '\r') return go(State::kSizeLf);
  if (byte == ';') return go(State::kExtensionBegin);
  return token && state_ != State::kQuotedEnd ? true : refuse(Fault::kExtension);
}

// Field lines as in a head. What they say comes too late to change where the message ends; but not every
// server sees it so: with a Content-Length there, llhttp waits for more after an upgrade.
bool Body::step_trailer(char byte) {
  if (++line_ > kMostTrailers) return refuse(Fault::kTrailerSize);
  switch (state_) {
    case State::kTrailerBegin:
      if (byte == '\r') return go(State::kEndLf);
      name_size_ = 0;
      name_fits_ = kAllNames;
      return byte != ':' && step_trailer_name(byte) ? go(State::kTrailerName) : refuse(Fault::kTrailer);
    case State::kTrailerName:
      return step_trailer_name(byte);
    case State::kTrailerValue:
      if (byte == '\r') return go(State::kTrailerLf);
      return is_a(kValueChar, byte) ? true : refuse(Fault::kTrailer);
    case State::kTrailerLf:
      return byte == '\n' ? go(State::kTrailerBegin) : refuse(Fault::kTrailer);
    default:  // kEndLf
      return byte == '\n' ? go(State::kDone) : refuse(Fault::kTrailer);
  }
}

bool Body::step_trailer_name(char byte) {
  if (byte != ':' && !is_a(kTokenChar, byte)) return refuse(Fault::kTrailer);
  for (unsigned i = 0; i < std::size(kLengthNames); ++i) {
    const std::string_view name = kLengthNames[i];
    const bool fits = name_fits_ & (1U << i);
    if (byte == ':' && fits && name_size_ == name.size()) return refuse(Fault::kTrailerLength);
    if (name_size_ >= name.size() || to_lower(byte) != name[name_size_])
      name_fits_ = static_cast<std::uint8_t>(name_fits_ & ~(1U << i));
  }
  if (byte == ':') return go(State::kTrailerValue);
  if (name_size_ < 255) ++name_size_;
  return true;
}

std::string_view Body::refusal() const {
  if (state_ != State::kRefused) return {};
  switch (fault_) {
    case Fault::kSize:
      return "a malformed chunk size";
    case Fault::kExtension:
      return "a malformed chunk extension";
    case Fault::kLineEnd:
      return "a chunk line that does not end in CRLF";
    case Fault::kLineLength:
      return "a chunk line above 4 KiB";
    case Fault::kDataEnd:
      return "chunk data that do not end in CRLF";
    case Fault::kTrailer:
      return "a malformed trailer";
    case Fault::kTrailerSize:
      return "trailers above 64 KiB";
    case Fault::kTrailerLength:
      return "a trailer that names a length or a coding";
    case Fault::kNone:
      break;
  }
  return "a body that was refused";
}

bool Body::is_sound() const {
  if (state_ > State::kLast || fault_ > Fault::kLast || line_ > kMostTrailers + 1) return false;
  const bool counting = state_ == State::kLength || state_ == State::kData;
  return !counting || remaining_ > 0;
}

}  // namespace relayd::http
