#include "tests/load/app/connection.h"

#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>

#include "tests/load/http_text.h"

namespace relayd::load {
namespace {

using std::chrono::milliseconds;

constexpr std::size_t kLargestHead = 16384;
constexpr milliseconds kLinger{2000};
constexpr int kStepsPerTurn = 64;
constexpr milliseconds kStreamPause{50};  // between two pieces of a stream with a rate

// /stream sends blocks of 64 KiB: the block's number in 8 bytes, big endian, then always the same bytes. A
// test can compute the hash of any length quickly, and a block that is lost, repeated or moved changes it.
constexpr std::size_t kBlock = 65536;
constexpr std::size_t kBlockNumber = 8;

const std::array<char, kBlock>& block_pattern() {
  static const auto pattern = [] {
    std::array<char, kBlock> bytes{};
    for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>((i * 167 + 13) & 0xff);
    return bytes;
  }();
  return pattern;
}

std::array<char, kBlockNumber> block_number(std::uint64_t block) {
  std::array<char, kBlockNumber> bytes{};
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<char>(block >> (8 * (7 - i)));
  return bytes;
}

}  // namespace

Connection::Connection(const AppOptions& options, Descriptor socket, std::uint64_t accepted)
    : options_(options), socket_(std::move(socket)), accepted_(accepted) {}

Connection::State Connection::advance(Moment now, bool ending) {
  if (ending) close_after_ = true;
  if (state_ == State::kLingering) return linger(now);
  if (wake_at_ && now < *wake_at_) return state_;
  wake_at_.reset();
  // The turn is bounded, so that a fast transfer does not keep the others waiting; it goes on at once after
  // them.
  bool more = true;
  for (int steps = 0; more && steps < kStepsPerTurn; ++steps) {
    switch (state_) {
      case State::kReadingHead:
        more = take_head();
        break;
      case State::kReadingBody:
        more = take_body(now);
        break;
      case State::kWaiting:
        answer();
        break;
      case State::kWriting:
        more = write_more(now);
        break;
      case State::kLingering:
      case State::kClosed:
        more = false;
        break;
    }
  }
  if (more) wake_at_ = now;
  return state_;
}

// What the client may still send is read, so that no RST cuts the answer short.
Connection::State Connection::linger(Moment now) {
  do {
    in_.clear();
  } while (read_more());
  if (peer_closed_ || now >= wake_at_.value_or(now)) state_ = State::kClosed;
  return state_;
}

// Appends what the socket has to in_. False where nothing came; an end or an error sets peer_closed_.
bool Connection::read_more() {
  char buffer[65536];
  const ssize_t got = ::recv(socket_.get(), buffer, sizeof buffer, 0);
  if (got > 0) {
    in_.append(buffer, static_cast<std::size_t>(got));
    return true;
  }
  if (got == 0 || (errno != EAGAIN && errno != EINTR)) peer_closed_ = true;
  return false;
}

bool Connection::take_head() {
  const std::size_t end = in_.find("\r\n\r\n");
  if (end == std::string::npos) {
    if (in_.size() > kLargestHead || peer_closed_) {
      state_ = State::kClosed;
      return false;
    }
    return read_more() || peer_closed_;
  }
  const auto request = parse_request(std::string_view(in_).substr(0, end + 2));
  in_.erase(0, end + 4);
  if (!request) {
    close_after_ = true;
    answer_with("400 Bad Request", "this app understands plain HTTP/1.1 with Content-Length\n");
    return true;
  }
  request_ = *request;
  if (!request_.keep_alive) close_after_ = true;
  body_left_ = request_.body_length;
  body_crc_ = Crc32();
  state_ = State::kReadingBody;
  return true;
}

bool Connection::take_body(Moment now) {
  const std::size_t taken = static_cast<std::size_t>(std::min<std::uint64_t>(in_.size(), body_left_));
  body_crc_.add(std::string_view(in_).substr(0, taken));
  in_.erase(0, taken);
  body_left_ -= taken;
  if (body_left_ > 0) {
    if (peer_closed_) state_ = State::kClosed;
    return !peer_closed_ && (read_more() || peer_closed_);
  }
  state_ = State::kWaiting;
  if (request_.path == "/slow") wake_at_ = now + milliseconds(request_.parameter("ms", 1000));
  return !wake_at_;
}

void Connection::answer() {
  if (request_.path == "/up") {
    if (options_.failing == Failing::kCheck) {
      answer_with("503 Service Unavailable", "not well: asked to fail\n");
    } else {
      answer_with("200 OK", "ok\n");
    }
  } else if (request_.path == "/stream") {
    stream_at_ = 0;
    stream_end_ = request_.parameter("bytes", 1 << 20);
    stream_rate_ = request_.parameter("rate", 0);
    stream_began_ = std::chrono::steady_clock::now();
    out_ = answer_head("200 OK", stream_end_, "Content-Type: application/octet-stream\r\n");
    state_ = State::kWriting;
  } else {
    const std::string body =
        "{\"service\":\"" + options_.service + "\",\"generation\":" + options_.generation +
        ",\"instance\":" + options_.instance + ",\"pid\":" + std::to_string(::getpid()) + ",\"id\":\"" +
        request_.id + "\",\"length\":" + std::to_string(request_.body_length) + ",\"crc32\":\"" +
        hex8(body_crc_.value()) + "\"}\n";
    answer_with("200 OK", body,
                "Content-Type: application/json\r\nX-Body-Length: " + std::to_string(request_.body_length) +
                    "\r\nX-Body-Crc32: " + hex8(body_crc_.value()) + "\r\n");
  }
}

void Connection::answer_with(const char* status, const std::string& body, const std::string& more_headers) {
  out_ = answer_head(status, body.size(), more_headers) + body;
  stream_at_ = stream_end_ = 0;
  state_ = State::kWriting;
}

std::string Connection::answer_head(const char* status, std::uint64_t length,
                                    const std::string& more_headers) const {
  return std::string("HTTP/1.1 ") + status + "\r\nContent-Length: " + std::to_string(length) +
         "\r\nX-Request-Id: " + request_.id + "\r\nX-Generation: " + options_.generation +
         "\r\nX-Instance: " + options_.instance + "\r\nX-Accepted: " + std::to_string(accepted_) + "\r\n" +
         more_headers + (close_after_ ? "Connection: close\r\n\r\n" : "\r\n");
}

bool Connection::write_more(Moment now) {
  long sent = 0;
  if (written_ < out_.size()) {
    sent = ::send(socket_.get(), out_.data() + written_, out_.size() - written_, MSG_NOSIGNAL);
    if (sent > 0) written_ += static_cast<std::size_t>(sent);
  } else if (stream_at_ < stream_end_) {
    sent = write_stream(now);
    if (sent > 0) stream_at_ += static_cast<std::uint64_t>(sent);
  }
  if (sent < 0 && errno != EAGAIN && errno != EINTR) {
    state_ = State::kClosed;
    return false;
  }
  if (written_ == out_.size() && stream_at_ == stream_end_) {
    finish_answer(now);
    return true;
  }
  return sent > 0 && !wake_at_;
}

// One piece of the stream. A rate is kept by waking up again when the next piece is due.
long Connection::write_stream(Moment now) {
  std::uint64_t most = 1 << 20;
  if (stream_rate_ > 0) {
    const auto passed = std::chrono::duration_cast<milliseconds>(now - stream_began_ + kStreamPause).count();
    const std::uint64_t due = static_cast<std::uint64_t>(passed) * stream_rate_ / 1000;
    wake_at_ = now + kStreamPause;
    if (due <= stream_at_) return 0;
    most = std::min(most, due - stream_at_);
  }
  const std::uint64_t left = std::min(most, stream_end_ - stream_at_);
  const std::size_t offset = stream_at_ % kBlock;
  const auto number = block_number(stream_at_ / kBlock);
  std::array<iovec, 2> parts{};
  std::size_t count = 0;
  if (offset < kBlockNumber) {
    const std::size_t size = static_cast<std::size_t>(std::min<std::uint64_t>(left, kBlockNumber - offset));
    parts[count++] = {const_cast<char*>(number.data()) + offset, size};
  }
  const std::size_t from = std::max(offset, kBlockNumber);
  const std::uint64_t rest = left - (count > 0 ? parts[0].iov_len : 0);
  const std::size_t size = static_cast<std::size_t>(std::min<std::uint64_t>(rest, kBlock - from));
  if (size > 0) parts[count++] = {const_cast<char*>(block_pattern().data()) + from, size};
  msghdr message{};
  message.msg_iov = parts.data();
  message.msg_iovlen = count;
  return ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL);
}

void Connection::finish_answer(Moment now) {
  ++served_;
  out_.clear();
  written_ = 0;
  wake_at_.reset();
  if (close_after_) {
    ::shutdown(socket_.get(), SHUT_WR);
    state_ = State::kLingering;
    wake_at_ = now + kLinger;
  } else {
    state_ = State::kReadingHead;
  }
}

}  // namespace relayd::load
