#pragma once

#include <cstdint>
#include <deque>
#include <type_traits>
#include <vector>

#include "proxy/http/body.h"
#include "proxy/http/head.h"
#include "proxy/net/connection.h"

namespace relayd::net {

// Where an HTTP client is: between two requests, or in one of them and the response to it. Plain data, as the
// connection's record.
//
//   kAwaited --whole head--> kUnanswered --first byte of the final response--> kAnswering
//      ^                                                                          |
//      '------------------- request sent and response passed on, both whole ------'
enum class Stage : std::uint8_t { kAwaited, kUnanswered, kAnswering };

enum ExchangeFlag : std::uint16_t {
  kClientKeeps = 1,   // after this request the client may send another one
  kBackendKeeps = 2,  // after this response the backend takes another one
  kRepeatable = 4,    // the method is idempotent (RFC 9110 9.2.2)
  kWhole = 8,         // the request stands whole in the client's chunk, also when it has been sent
  kSentAgain = 16,    // to another instance, as the first one gave no answer
  kGuessing = 32,     // `protocol: auto`, and too few bytes to tell
  // The backend's connection lay idle for so long that the backend may be closing it: not for a request that
  // cannot be sent again.
  kStale = 64,
  kFirstSent = 128,   // something of the request has been taken by this backend
  kReused = 256,      // this backend connection has carried a request before
  kUnread = 512,      // Exchange::partial came with an interim response and has not been looked at
  kSpoilt = 1024,     // the backend has said more than it was asked for: no further request for it
  kNoFurther = 2048,  // relayd is being stopped: the client is asked to end behind this response
};

struct Exchange {
  http::Body request;   // what is still to come from the client
  http::Body response;  // what is still to come from the backend
  // The client's chunk (Connection::parked): current request from 0, sent up to Chunk::begin, in hand up to
  // here; what is behind it belongs to later requests.
  std::uint32_t request_end = 0;
  std::uint32_t searched = 0;    // bytes of the incomplete head that have been looked through for its end
  Index partial = kNone;         // chunk with the beginning of a response's head
  std::uint32_t generation = 0;  // that took the last request; 0: none yet
  Tick head_since = 0;           // first byte of the incomplete head
  std::uint16_t answer = 0;      // status that relayd itself has answered; 0: none
  http::RequestContext context;
  Stage stage = Stage::kAwaited;
  std::uint16_t flags = 0;  // ExchangeFlag
};
static_assert(std::is_trivially_copyable_v<Exchange>);

inline void set(Exchange& exchange, ExchangeFlag flag, bool on) {
  exchange.flags = static_cast<std::uint16_t>(on ? exchange.flags | flag : exchange.flags & ~flag);
}

// The exchanges of one worker's HTTP clients, by index. Not thread-safe.
class ExchangeTable {
 public:
  Index add() {
    ++in_use_;
    if (free_.empty()) {
      exchanges_.emplace_back();
      return static_cast<Index>(exchanges_.size() - 1);
    }
    const Index index = free_.back();
    free_.pop_back();
    exchanges_[index] = Exchange{};
    return index;
  }
  void drop(Index index) {
    --in_use_;
    free_.push_back(index);
  }
  std::size_t in_use() const { return in_use_; }
  Exchange& operator[](Index index) { return exchanges_[index]; }

 private:
  std::deque<Exchange> exchanges_;  // a reference stays good while others come
  std::vector<Index> free_;
  std::size_t in_use_ = 0;
};

}  // namespace relayd::net
