#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "proxy/http/refusal.h"

// The heads of HTTP/1 messages: from the start line to the empty line. A head is handed over whole, in the
// caller's buffer; nothing is kept and nothing is copied. What leaves a doubt about where the message ends is
// refused, never guessed (RFC 9112 6.3, 11.2).
//
//   bytes ─► skip_empty_lines ─► find_request_head ─► Body (proxy/http/body.h)
namespace relayd::http {

inline constexpr std::size_t kMostHead = 64 * 1024;  // bytes, with the empty line

// RFC 9112 2.2: empty lines before a request line are ignored. How many bytes of such lines (whole CRLFs)
// stand at the front of what a client sent between two requests. The caller drops them (and looks again while
// what is left begins with a CR), and does not count them as activity: a client can then not stay for ever by
// sending them, and backends need not know the rule.
std::size_t skip_empty_lines(std::string_view bytes);

// The size of the head at the front of `bytes`, its empty line included; 0 if more is needed. `searched` is
// the size of `bytes` at the call before, which found no end (0 at the first). Refused as soon as a line ends
// in a bare LF (400), or when the head is above kMostHead (431); of a response, either is a 502.
Verdict<std::size_t> find_head_end(std::string_view bytes, std::size_t searched);

// How the end of a body is found. The numbers are part of saved records.
enum class Framing : std::uint8_t {
  kNone = 0,        // no body; the message ends with its head
  kLength = 1,      // `length` bytes, at least one
  kChunked = 2,     // RFC 9112 7.1
  kUntilClose = 3,  // responses only: up to the backend's FIN; tunnels too
};

enum class Method : std::uint8_t { kOther, kGet, kHead, kPost, kPut, kDelete, kConnect, kOptions, kTrace };

// RFC 9110 9.2.2. A method that is not known here counts as not idempotent.
constexpr bool is_idempotent(Method method) {
  return method != Method::kOther && method != Method::kPost && method != Method::kConnect;
}

// A part of a head. size 0: absent.
struct Span {
  std::uint32_t begin = 0;  // bytes from the beginning of the head
  std::uint32_t size = 0;
  std::string_view in(std::string_view head) const { return head.substr(begin, size); }
  bool operator==(const Span&) const = default;
};

struct RequestHead {
  std::uint64_t length = 0;        // of the body, where framing is kLength
  std::uint32_t fields_begin = 0;  // behind the request line: a whole line may be put in here
  // The value of the last X-Forwarded-For line, without the blanks around it: ", address" may be put in at
  // its end. Likewise X-Forwarded-Proto. Without such a line, or with an empty one, size is 0.
  Span forwarded_for{};
  Span forwarded_proto{};
  Method method = Method::kOther;
  Framing framing = Framing::kNone;
  std::uint8_t minor = 1;         // HTTP/1.minor: 0 or 1
  bool keep_alive = false;        // the client may send another request on this connection (RFC 9112 9.3)
  bool expects_continue = false;  // waits for 100 before it sends the body (RFC 9110 10.1.1)
  bool upgrade = false;           // asks for another protocol (RFC 9110 7.8)
  // A name is there that CGI and WSGI (PEP 3333) do not tell from X-Forwarded-For or X-Forwarded-Proto, as
  // they turn '-' into '_'.
  bool forwarded_twin = false;
  bool operator==(const RequestHead&) const = default;
};

// `head` is what find_head_end found, without empty lines before it. The refusal's status is 400; 501 for a
// transfer coding that relayd does not follow; 505 for another version.
Verdict<RequestHead> parse_request_head(std::string_view head);

// A head at the front of bytes.
template <typename Head>
struct Found {
  std::size_t size = 0;  // with its empty line; 0: more bytes are needed
  Head head{};
};

// find_head_end() and parse_request_head() one after the other; in one pass where the head is whole at once.
Verdict<Found<RequestHead>> find_request_head(std::string_view bytes, std::size_t searched);

// What must be remembered of a request to read the response to it.
struct RequestContext {
  bool head = false;     // the response has no body (RFC 9112 6.3)
  bool connect = false;  // 2xx makes a tunnel
  bool upgrade = false;  // 101 may come, and makes a tunnel
};
constexpr RequestContext context_of(const RequestHead& request) {
  return {request.method == Method::kHead, request.method == Method::kConnect, request.upgrade};
}

enum class ResponseKind : std::uint8_t {
  kInterim,  // 1xx: another head follows (RFC 9110 15.2)
  kFinal,
  kTunnel,  // 101, or 2xx to CONNECT: both directions are opaque from here on
};

struct ResponseHead {
  std::uint64_t length = 0;
  std::uint32_t fields_begin = 0;
  std::uint16_t status = 0;  // 100 to 999
  ResponseKind kind = ResponseKind::kFinal;
  Framing framing = Framing::kNone;
  std::uint8_t minor = 1;
  // The backend's connection may carry another request. Always for kInterim: only the final head tells.
  bool keep_alive = false;
  bool operator==(const ResponseHead&) const = default;
};

// As parse_request_head; the refusal's status is 502. A response has no empty lines before it.
Verdict<ResponseHead> parse_response_head(std::string_view head, RequestContext request);

// As find_request_head; every refusal is a 502.
Verdict<Found<ResponseHead>> find_response_head(std::string_view bytes, RequestContext request);

}  // namespace relayd::http
