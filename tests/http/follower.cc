#include "tests/http/follower.h"

#include <algorithm>
#include <array>
#include <bit>

namespace relayd::http {
namespace {

std::string words(const Refusal& refusal) {
  return "refused " + std::to_string(refusal.status) + ": " + std::string(refusal.reason);
}

std::string words(Framing framing, std::uint64_t length, bool keep_alive) {
  const std::string end = framing == Framing::kNone      ? "none"
                          : framing == Framing::kLength  ? "length=" + std::to_string(length)
                          : framing == Framing::kChunked ? "chunked"
                                                         : "until-close";
  return end + (keep_alive ? " keep" : " close");
}

}  // namespace

void Follower::feed(std::string_view piece) {
  if (state_ == State::kClosed) return;
  buffer_ += piece;
  bool more = true;
  while (more) {
    switch (state_) {
      case State::kHead:
        more = take_head();
        break;
      case State::kBody:
        more = take_body();
        break;
      default:
        if (state_ == State::kRefused && !body_.refusal().empty() && body_.advance(piece) != 0)
          broken_ = "a refused body went on";
        more = false;
    }
  }
}

bool Follower::take_head() {
  if (side_ == Side::kRequest && buffer_.starts_with('\r')) {
    const std::size_t empty = skip_empty_lines(buffer_);
    buffer_.erase(0, empty);
    offset_ += empty;
    if (empty > 0) searched_ = 0;
  }
  const auto end = find_head_end(buffer_, searched_);
  if (!end) {
    messages_.push_back(side_ == Side::kRequest ? words(end.error()) : words({502, end.error().reason}));
    state_ = State::kRefused;
    return true;
  }
  if (*end > buffer_.size()) broken_ = "a head that is longer than its bytes";
  searched_ = buffer_.size();
  if (*end == 0 || !broken_.empty()) return false;
  const std::string head = buffer_.substr(0, *end);
  messages_.push_back(read_head(head));
  if (state_ == State::kRefused) return true;
  heads_.push_back(head);
  buffer_.erase(0, *end);
  offset_ += *end;
  searched_ = 0;
  if (body_.done()) end_message();
  return true;
}

std::string Follower::read_head(std::string_view head) {
  state_ = State::kBody;
  if (side_ == Side::kRequest) {
    const auto read = parse_request_head(head);
    if (!read) {
      state_ = State::kRefused;
      return words(read.error());
    }
    body_ = Body(*read);
    closes_ = !read->keep_alive;
    return "accepted " + words(read->framing, read->length, read->keep_alive) +
           (read->expects_continue ? " expects" : "") + (read->upgrade ? " upgrade" : "");
  }
  const auto read = parse_response_head(head, context_);
  if (!read) {
    state_ = State::kRefused;
    return words(read.error());
  }
  body_ = Body(*read);
  closes_ = !read->keep_alive;
  return "accepted " + std::to_string(read->status) + " " +
         words(read->framing, read->length, read->keep_alive) +
         (read->kind == ResponseKind::kInterim  ? " interim"
          : read->kind == ResponseKind::kTunnel ? " tunnel"
                                                : "");
}

bool Follower::take_body() {
  if (with_skip_) {
    body_ = std::bit_cast<Body>(std::bit_cast<std::array<std::byte, sizeof(Body)>>(body_));
    if (!body_.is_sound()) broken_ = "a body that is not sound";
    const auto unread = std::min<std::uint64_t>(body_.unread(), buffer_.size());
    body_.skip(unread);
    buffer_.erase(0, unread);
    offset_ += unread;
  }
  const std::size_t count = body_.advance(buffer_);
  if (count > buffer_.size()) {
    broken_ = "more was taken than there is";
    return false;
  }
  const bool short_without_cause = count < buffer_.size() && !body_.done() && body_.refusal().empty();
  if (short_without_cause) broken_ = "bytes were left in the middle of a body";
  buffer_.erase(0, count);
  offset_ += count;
  if (!body_.refusal().empty()) {
    state_ = State::kRefused;
    messages_.back() += "; refused: " + std::string(body_.refusal());
    marks_.push_back(offset_);
    return true;
  }
  if (!body_.done()) return false;
  end_message();
  return true;
}

void Follower::end_message() {
  marks_.push_back(offset_);
  state_ = closes_ ? State::kClosed : State::kHead;
}

std::string Follower::first() const { return messages_.empty() ? "unfinished" : messages_.front(); }

std::string Follower::told() const {
  std::string text;
  for (const std::string& message : messages_) text += message + "\n";
  for (const std::size_t mark : marks_) text += std::to_string(mark) + " ";
  return text;
}

}  // namespace relayd::http
