#pragma once

#include <cstdint>
#include <type_traits>

#include "proxy/base/time.h"
#include "proxy/net/route.h"

// One client and its backend connection, as plain data: ids and indexes, no pointer, no handle. It can be
// written down and taken up by another process.
namespace relayd::net {

using Index = std::uint32_t;  // of a slot in one of the worker's tables
inline constexpr Index kNone = ~Index{0};

// Time as connections keep it: hundredths of a second since the worker began. It wraps after 497 days, so
// that only differences mean anything.
using Tick = std::uint32_t;
inline constexpr std::int64_t kMillisecondsPerTick = 10;
constexpr bool reached(Tick now, Tick due) { return static_cast<std::int32_t>(now - due) >= 0; }
// Rounded up; at most about 124 days.
constexpr Tick to_ticks(Duration duration) {
  constexpr std::int64_t kMost = 1 << 30;
  const std::int64_t ticks = (duration.count() + kMillisecondsPerTick - 1) / kMillisecondsPerTick;
  return static_cast<Tick>(ticks < kMost ? ticks : kMost);
}

// Sides and directions share their numbers: direction kClient carries bytes from the client to the backend.
inline constexpr unsigned kClient = 0;
inline constexpr unsigned kBackend = 1;

//                    accept --> kGreeting, where a PROXY header is awaited; then on as below
//          no route /      \ route
//                  v        v      connect failed: another instance, or
//               kHeld --> kConnecting ------.
//                  ^ route  |     ^_________| back to kHeld, where none is left
//                  '--------|---------------'
//                           v connected
//                       kRelaying --------------------------.
//     both ended: closed |      | backend gone after its     | one side was reset, and what it
//                        |      | whole response             | had sent before is still leaving
//                        |      v                            v
//                        |  kLingering                   kResetting
//                        |      | client ended or is quiet   | left, or 30 s still: RST
//                        v      v                            v
//                      kClosed (until the end of the turn) --> kFree
// HTTP: kIdle between two requests, without a backend; kReading while the head of a request is incomplete,
// with a backend or without, and kGuessing while it may also be none; between two requests with a backend it
// is kRelaying. Every state but kFree has a way to kClosed by a timeout, cut(), or the client's going away.
enum class State : std::uint8_t {
  kFree,
  kGreeting,
  kIdle,
  kGuessing,
  kReading,
  kHeld,
  kConnecting,
  kRelaying,
  kLingering,
  kResetting,
  kClosed
};

// One direction of a connection.
enum class Flow : std::uint8_t {
  kOpen,      // bytes are read and passed on
  kDraining,  // the source's FIN was read; parked bytes, then the FIN, are still to be passed on
  kShut,      // ended: the FIN was passed on, or there is nobody to pass it to
  kDiscard,   // the sink is gone; bytes are read and thrown away, so that the source need not be reset
};

// What is known of one socket. Edges are remembered here until they are used up.
enum SideFlag : std::uint16_t {
  kReadReady = 1,   // a recv may give something
  kWriteReady = 2,  // a send may take something
  kHangup = 4,      // EPOLLRDHUP was seen: a short read is followed by the end
  kUrgent = 8,      // urgent data was seen, or descriptors on a Unix socket: recv stops short there, so a
                    // short read proves nothing
  kFailed = 16,     // the socket has an error: nothing can be sent any more
  kWasReset = 32,   // the ECONNRESET that recv would tell has been consumed already, by a send or so
  kWatched = 64,    // in the epoll set
  kWatchedForRoom = 128,  // with EPOLLOUT, which is asked for when a send first falls short
  kNoDelay = 256,  // TCP_NODELAY is set; before the first bytes it would change nothing but the system calls
  kIsUnix = 512,
};

enum ConnectionFlag : std::uint8_t {
  kQueuedAgain = 1,  // on the worker's run-again list
  // The backend's process has ended: once its bytes are passed on, nobody is left to talk to.
  kNobodyBehind = 2,
  kWaited = 4,         // has been held
  kIntroduced = 8,     // the PROXY header has been sent on this backend connection
  kHoldPromised = 16,  // while it is greeting: it has a place among those who wait
  kUndecided = 32,     // `protocol: auto`: no byte has been carried, so that it may be anything
  kTunnel = 64,        // HTTP once, and opaque after a 101 or a CONNECT
  kSaidAll = 128,      // while it lingers: its last request was whole, and nothing more of it is awaited
};

// Connection::parked names a chunk, or with this bit a pipe.
inline constexpr Index kPipeBit = Index{1} << 31;
inline constexpr Index kSmallBit = Index{1} << 30;  // of a chunk that is a small one
constexpr bool is_pipe(Index parked) { return parked != kNone && (parked & kPipeBit) != 0; }

// Resets before any byte was carried, after which they are taken for the backend's will and passed on.
inline constexpr std::uint8_t kMostRescues = 3;

struct Connection {
  std::uint64_t id = 0;         // worker << 48 | order of arrival at that worker
  std::uint64_t bytes_in = 0;   // passed on from the client to a backend
  std::uint64_t bytes_out = 0;  // passed on to the client
  std::uint64_t tried = 0;      // endpoints of the route that failed this client, by position modulo 64
  int fd[2] = {-1, -1};
  Index parked[2] = {kNone, kNone};  // chunk or pipe with bytes of that direction which did not fit
  Index previous = kNone;            // in the one list of its service that it is in
  Index next = kNone;
  Index endpoint = kNone;
  Index origin = kNone;    // addresses that the client's PROXY header told
  Index exchange = kNone;  // of an HTTP client
  Tick opened = 0;
  Tick active = 0;  // last byte, or the last change of state
  // When its list looks at it next; kLingering and kResetting: bytes that were still leaving at the last
  // look.
  Tick due = 0;
  Tick held_since = 0;  // first moment of waiting; meaningful where kWaited
  ServiceId service = 0;
  std::uint16_t route_epoch = 0;  // the route that `tried` and `walked` are about
  std::uint16_t walked = 0;       // positions tried one by one, where `tried` cannot tell them apart
  State state = State::kFree;
  Flow flow[2] = {Flow::kOpen, Flow::kOpen};
  std::uint16_t side[2] = {0, 0};  // SideFlag
  std::uint8_t flags = 0;          // ConnectionFlag
  std::uint8_t full_reads[2] = {0,
                                0};  // of a direction, one after the other; small moves while it is spliced
  std::uint8_t rescues = 0;          // times that an instance reset it before any byte was carried
  // Connects so far, modulo 256: tells events of a former backend socket from this one's.
  std::uint8_t attempts = 0;
};
// 128 B of user memory per idle pair is the promise, all tables included.
static_assert(sizeof(Connection) <= 104);
static_assert(std::is_trivially_copyable_v<Connection>);

constexpr bool is_a(const Connection& connection, ConnectionKind kind) {
  const bool tunnel = (connection.flags & kTunnel) != 0;
  return kind == ConnectionKind::kAll || tunnel == (kind == ConnectionKind::kTunnels);
}

}  // namespace relayd::net
