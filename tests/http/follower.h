#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "proxy/http/body.h"
#include "proxy/http/head.h"

namespace relayd::http {

enum class Side { kRequest, kResponse };

// Follows one direction of a connection as proxy/net does: heads are collected, bodies pass. For tests.
class Follower {
 public:
  // `with_skip`: what need not be looked at is told by skip(), as a splice would, and the body is written
  // down and read again at each piece, as by another process.
  explicit Follower(Side side, RequestContext context = {}, bool with_skip = false)
      : side_(side), context_(context), with_skip_(with_skip) {}

  void feed(std::string_view piece);

  // "accepted length=5 keep", "refused 400: more than one Host", "unfinished"; of a body that was refused
  // behind the head: "...; refused: a malformed trailer". Of the first message.
  std::string first() const;
  // Offsets of the ends of messages, and last of the byte where a body was refused.
  const std::vector<std::size_t>& marks() const { return marks_; }
  // Everything that was seen, for comparing: each message in words, and the marks.
  std::string told() const;
  bool refused() const { return state_ == State::kRefused; }
  // Accepted heads, as they were.
  const std::vector<std::string>& heads() const { return heads_; }
  // Empty, or the promise of the interface that was broken.
  const std::string& broken() const { return broken_; }

 private:
  enum class State { kHead, kBody, kRefused, kClosed };
  bool take_head();
  bool take_body();
  std::string read_head(std::string_view head);
  void end_message();

  Side side_;
  RequestContext context_;
  bool with_skip_;
  State state_ = State::kHead;
  std::string buffer_;        // not yet told
  std::size_t offset_ = 0;    // of the buffer in the stream
  std::size_t searched_ = 0;  // of the buffer, for the end of a head
  bool closes_ = false;       // nothing is a message behind this one
  Body body_;
  std::vector<std::string> messages_;
  std::vector<std::string> heads_;
  std::vector<std::size_t> marks_;
  std::string broken_;
};

}  // namespace relayd::http
