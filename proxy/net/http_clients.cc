#include <sys/socket.h>

#include <cerrno>
#include <utility>

#include "proxy/http/first_bytes.h"
#include "proxy/net/worker.h"

// HTTP clients: a backend for each request, kept for the next one as long as its generation serves. Between
// two requests the client's connection crosses to the generation that serves then, and the client notices
// nothing.
namespace relayd::net {
namespace {

// Bytes that may still become a request line are waited for so long; a client that means something else loses
// that much time. Long enough for a segment that was lost to come again (RFC 6298: after 1 s).
constexpr Tick kGuessLimit = to_ticks(std::chrono::seconds(2));
// A head that takes longer than this gives its backend free for others …
constexpr Tick kSlowHead = to_ticks(std::chrono::seconds(1));
// … and is answered 408 after this.
constexpr Tick kHeadLimit = to_ticks(std::chrono::seconds(30));
// Servers close connections that lie idle, the quickest after 2 s. A request that cannot be sent again does
// not run into that: after this it gets a connection of its own.
constexpr Tick kFresh = to_ticks(std::chrono::seconds(1));

// Between two requests, and neither side has given a sign since: another look at them would find nothing.
bool is_at_rest(const Connection& connection, const Exchange& exchange) {
  return connection.parked[kClient] == kNone && (connection.side[kClient] & (kReadReady | kFailed)) == 0 &&
         (connection.side[kBackend] & (kReadReady | kHangup | kFailed)) == 0 && !(exchange.flags & kSpoilt);
}

}  // namespace

// Nobody has to be waited for: an HTTP client says first what it wants, others are connected at once.
void Worker::start(ServiceState& service, Index index) {
  Connection& connection = slab_[index];
  connection.flags &= static_cast<std::uint8_t>(~kUndecided);
  if (connection.exchange != kNone || service.settings.protocol == config::Protocol::kTcp ||
      connection.parked[kClient] != kNone) {
    connect(service, index);
    return;
  }
  if (service.settings.protocol == config::Protocol::kHttp) {
    connection.exchange = exchanges_.add();
    relay_http(index);
    return;
  }
  const std::string_view bytes = relay_.read_first(connection);
  const http::Guess guess = bytes.empty() ? http::Guess::kNo : http::looks_like_http1_request(bytes);
  if (guess != http::Guess::kNo) {
    begin_exchange(connection, guess);
    relay_http(index);
    return;
  }
  if (bytes.empty()) connection.flags |= kUndecided;
  connect(service, index);
}

// With the bytes that were just read.
void Worker::begin_exchange(Connection& connection, http::Guess guess) {
  connection.flags &= static_cast<std::uint8_t>(~kUndecided);
  connection.exchange = exchanges_.add();
  if (guess == http::Guess::kMore) exchanges_[connection.exchange].flags |= kGuessing;
  relay_.keep_first(connection);
}

void Worker::end_exchange(Connection& connection) {
  if (connection.exchange == kNone) return;
  relay_.drop_partial(exchanges_[connection.exchange]);
  exchanges_.drop(std::exchange(connection.exchange, kNone));
}

// A connected client that has said nothing yet: whoever speaks first decides what it is. False where it is to
// be relayed as it is, or is still undecided.
bool Worker::decide(Connection& connection) {
  if (connection.side[kClient] & kReadReady) {
    const std::string_view bytes = relay_.read_first(connection);
    if (!bytes.empty()) {
      const http::Guess guess = http::looks_like_http1_request(bytes);
      if (guess != http::Guess::kNo) {
        begin_exchange(connection, guess);
        return true;
      }
      relay_.keep_first(connection);
      connection.flags &= static_cast<std::uint8_t>(~kUndecided);
      return false;
    }
  }
  const bool spoken =
      (connection.side[kClient] | connection.side[kBackend]) & (kReadReady | kFailed | kHangup);
  if (spoken) connection.flags &= static_cast<std::uint8_t>(~kUndecided);
  return false;
}

void Worker::relay_http(Index index) {
  Connection& connection = slab_[index];
  ServiceState& service = service_of(connection);
  Exchange& exchange = exchanges_[connection.exchange];
  for (;;) {
    std::string forwarded;
    if (exchange.stage == Stage::kAwaited) {
      const bool has = connection.fd[kBackend] >= 0;
      const bool drains = has && !service.stopping && endpoints_[connection.endpoint].routes == 0;
      if (has && ((!(exchange.flags & kGuessing) && drains) || (exchange.flags & kSpoilt) ||
                  backend_leaves(connection))) {
        if (exchange.flags & kGuessing) {  // no HTTP server speaks first
          become_opaque(service, index);
          return;
        }
        leave_backend(service, connection);
        exchange.flags &= static_cast<std::uint16_t>(~kSpoilt);
      }
      if (reached(now_, connection.active + kFresh)) exchange.flags |= kStale;
      if (service.settings.forwarded_headers) {
        if (!has_address(connection)) {
          close_connection(index, true);
          return;
        }
        forwarded = client_host(connection);
      }
    }
    if (service.stopping) exchange.flags |= kNoFurther;
    const std::uint64_t bytes_in = connection.bytes_in;
    const std::uint64_t bytes_out = connection.bytes_out;
    const Next next = relay_.run_http(connection, exchange, forwarded);
    note_traffic(service, connection, bytes_in, bytes_out);
    switch (next) {
      case Next::kExchanged:
        note_exchanged(service, connection, exchange);
        if (service.stopping || !is_at_rest(connection, exchange)) continue;
        settle_http(service, index);
        return;
      case Next::kAgain:
      case Next::kWait:
        settle_http(service, index);
        if (next == Next::kAgain) run_again(index);
        return;
      case Next::kNeedBackend:
        find_backend(service, index);
        return;
      case Next::kLost:
        if (send_again(service, index)) return;
        relay_.answer(connection, exchange, 502, "the app has closed the connection without an answer");
        finish_http(service, index);
        return;
      case Next::kOpaque:
        become_opaque(service, index);
        return;
      case Next::kTunnel:
        count_request(service, connection, exchange);
        connection.flags |= kTunnel;
        become_opaque(service, index);
        return;
      case Next::kLinger:
        finish_http(service, index);
        return;
      default:
        if (connection.fd[kBackend] < 0 || next != Next::kReset) {
          close_connection(index, next == Next::kReset);
        } else {
          end_exchange(connection);
          begin_reset(index);
        }
        return;
    }
  }
}

// Between two requests a backend that says anything, or ends, is of no more use. Asked of the socket itself,
// as what the last event told may have been read since.
bool Worker::backend_leaves(Connection& connection) {
  if (!(connection.side[kBackend] & (kReadReady | kHangup | kFailed))) return false;
  if (connection.side[kBackend] & kFailed) return true;
  char byte = 0;
  const ssize_t got = ::recv(connection.fd[kBackend], &byte, 1, MSG_PEEK | MSG_DONTWAIT);
  if (got >= 0 || errno != EAGAIN) return true;
  connection.side[kBackend] &= static_cast<std::uint16_t>(~kReadReady);
  return false;
}

std::string Worker::client_host(const Connection& connection) const {
  if (connection.origin != kNone) return origins_[connection.origin].source.host();
  if (connection.side[kClient] & kIsUnix) return "";
  const auto peer = peer_address(connection.fd[kClient]);
  return peer ? peer->host() : "";
}

// It has been answered by an instance, or is being.
void Worker::count_request(ServiceState& service, const Connection& connection, Exchange& exchange) {
  const EndpointTable::Entry& entry = endpoints_[connection.endpoint];
  add(service.counters->requests, 1);
  entry.endpoint.load->requests.fetch_add(1, std::memory_order_relaxed);
  if (exchange.generation != 0 && exchange.generation != entry.endpoint.generation) {
    add(service.counters->crossings, 1);
  }
  exchange.generation = entry.endpoint.generation;
}

void Worker::note_exchanged(ServiceState& service, Connection& connection, Exchange& exchange) {
  count_request(service, connection, exchange);
  exchange.flags |= kReused;
  connection.rescues = 0;
  if (endpoints_[connection.endpoint].routes == 0 && !service.stopping) {  // it drains
    leave_backend(service, connection);
  }
}

// What the connection waits for says in which state and list it is.
void Worker::settle_http(ServiceState& service, Index index) {
  Connection& connection = slab_[index];
  if (service.stopping && is_idle(connection)) {
    close_connection(index);
    return;
  }
  Exchange& exchange = exchanges_[connection.exchange];
  const bool within_head = exchange.stage == Stage::kAwaited && connection.parked[kClient] != kNone;
  const State wanted = exchange.flags & kGuessing     ? State::kGuessing
                       : within_head                  ? State::kReading
                       : connection.fd[kBackend] >= 0 ? State::kRelaying
                                                      : State::kIdle;
  if (connection.state != wanted) {
    unlist(service, index);
    connection.state = wanted;
    if (wanted == State::kRelaying) {
      list_relaying(service, index);
    } else if (wanted == State::kIdle) {
      list_idle(service, index);
    } else {
      exchange.head_since = now_;
      const bool guessing = wanted == State::kGuessing;
      connection.due = now_ + (guessing ? kGuessLimit : kSlowHead);
      (guessing ? service.guessing : service.reading).push_back(slab_, index);
      want_tick();
    }
  }
  if (!watch(index, kClient)) {
    close_connection(index);
    return;
  }
  watch_for_room(connection, index);
}

void Worker::find_backend(ServiceState& service, Index index) {
  Connection& connection = slab_[index];
  if (index == released_) {  // its turn has come, before its request was read
    unlist(service, index);
    connect(service, index);
    return;
  }
  connection.tried = 0;
  connection.walked = 0;
  connection.rescues = 0;
  begin_placing(connection);
  place_again(service, index);
}

// Away from the backend that it has, to whoever serves now.
void Worker::place_again(ServiceState& service, Index index) {
  unlist(service, index);
  leave_backend(service, slab_[index]);
  place(service, index, false);
}

// A request is placed as a new client would be: what the ones before it have waited for does not count.
void Worker::begin_placing(Connection& connection) {
  connection.flags &= static_cast<std::uint8_t>(~(kWaited | kNobodyBehind));
}

// To another instance, if the request may be repeated: an idempotent method whose request is whole in the
// buffer (RFC 9110 9.2.2), once; or a request of which the backend took nothing. A fresh connection that is
// reset has not been read to its end, such as those in the queue of a process that was killed: that does not
// count as once, as the next connect tells whether the instance is still there.
bool Worker::send_again(ServiceState& service, Index index) {
  Connection& connection = slab_[index];
  Exchange& exchange = exchanges_[connection.exchange];
  if (!(exchange.flags & kWhole)) return false;
  ++connection.rescues;  // also lets it go to the same instance, where there is no other
  const bool fresh = !(exchange.flags & kReused);
  if (exchange.flags & kFirstSent) {
    const bool unread = fresh && (connection.side[kBackend] & kFailed) && connection.rescues < kMostRescues;
    if (!(exchange.flags & kRepeatable) || (!unread && (exchange.flags & kSentAgain))) return false;
    if (!unread) exchange.flags |= kSentAgain;
    add(service.counters->sent_again, 1);
  } else if (connection.rescues > kMostRescues) {
    return false;
  }
  // One that has answered before has only closed what lay idle.
  if (connection.endpoint != kNone) {
    note_tried(service, connection, connection.endpoint);
    if (fresh) note_failure(service, connection, connection.endpoint, ECONNRESET);
  }
  relay_.rewind(connection, exchange);
  begin_placing(connection);
  place_again(service, index);
  return true;
}

// Relayed as it is from here on.
void Worker::become_opaque(ServiceState& service, Index index) {
  Connection& connection = slab_[index];
  end_exchange(connection);
  if (!watch(index, kClient)) {
    close_connection(index);
    return;
  }
  unlist(service, index);
  if (connection.fd[kBackend] < 0) {
    place(service, index, false);
    return;
  }
  connection.state = State::kRelaying;
  list_relaying(service, index);
  relay(index);
}

// The last answer is on its way, relayd's own or a backend's; then the client's connection ends.
void Worker::finish_http(ServiceState& service, Index index) {
  Connection& connection = slab_[index];
  Exchange& exchange = exchanges_[connection.exchange];
  if (exchange.answer != 0) {
    add(service.counters->answered, 1);
  } else if (exchange.stage == Stage::kAnswering) {
    count_request(service, connection, exchange);
  }
  if (exchange.stage != Stage::kAwaited && exchange.request.done()) connection.flags |= kSaidAll;
  end_exchange(connection);
  if (!watch(index, kClient)) {
    close_connection(index);
    return;
  }
  begin_linger(index);
}

void Worker::answer_http(ServiceState& service, Index index, unsigned status, std::string_view reason) {
  Connection& connection = slab_[index];
  if (connection.exchange == kNone) {
    connection.exchange = exchanges_.add();
    if (connection.parked[kClient] == kNone) {  // held without being read
      const bool head = relay_.read_first(connection).starts_with("HEAD ");
      exchanges_[connection.exchange].context.head = head;
      relay_.keep_first(connection);
    }
  }
  relay_.answer(connection, exchanges_[connection.exchange], status, reason);
  finish_http(service, index);
}

// Whether a client that was held without being read would understand an answer.
bool Worker::speaks_http(const ServiceState& service, Connection& connection) {
  if (connection.exchange != kNone) return !(exchanges_[connection.exchange].flags & kGuessing);
  if (service.settings.protocol == config::Protocol::kHttp) return true;
  if (service.settings.protocol == config::Protocol::kTcp || connection.parked[kClient] != kNone)
    return false;
  const std::string_view bytes = relay_.read_first(connection);
  const bool speaks = http::looks_like_http1_request(bytes) == http::Guess::kYes;
  if (speaks) {
    connection.exchange = exchanges_.add();
    exchanges_[connection.exchange].context.head = bytes.starts_with("HEAD ");
  }
  relay_.keep_first(connection);
  return speaks;
}

void Worker::expire_reading(ServiceState& service) {
  while (!service.guessing.empty() && reached(now_, slab_[service.guessing.front()].due)) {
    become_opaque(service, service.guessing.front());
  }
  for (std::size_t left = service.reading.size(); left > 0 && !service.reading.empty(); --left) {
    const Index index = service.reading.front();
    Connection& connection = slab_[index];
    if (!reached(now_, connection.due)) return;
    const Exchange& exchange = exchanges_[connection.exchange];
    if (reached(now_, exchange.head_since + kHeadLimit)) {
      answer_http(service, index, 408, "the head of the request took longer than 30 s");
    } else {
      leave_backend(service, connection);
      service.reading.remove(slab_, index);
      connection.due = now_ + kSlowHead;
      service.reading.push_back(slab_, index);
    }
  }
}

}  // namespace relayd::net
