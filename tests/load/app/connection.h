#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

#include "proxy/base/descriptor.h"
#include "tests/load/app/request.h"
#include "tests/load/crc32.h"

namespace relayd::load {

using Moment = std::chrono::steady_clock::time_point;

// How the app is to fail, for tests of relayd: see --help of demo_app.
enum class Failing { kNo, kExit, kHang, kCheck, kDieAfterReady };

struct AppOptions {
  std::string listen;  // "127.0.0.1:80", "unix:/path"
  unsigned boot_ms = 0;
  Failing failing = Failing::kNo;
  unsigned die_ms = 300;
  std::string exclusive;  // a lock file: a second copy at the same time is an error
  std::string service;
  std::string generation;
  std::string instance;
  bool ignore_term = false;
};

// One client of the demo's app. Reads requests and writes answers; knows no loop: whoever owns it calls
// advance() when the socket may have become readable or writable, or wake_at() has come.
class Connection {
 public:
  enum class State { kReadingHead, kReadingBody, kWaiting, kWriting, kLingering, kClosed };

  Connection(const AppOptions& options, Descriptor socket, std::uint64_t accepted);

  // Does what can be done now. kClosed afterwards: destroy it.
  State advance(Moment now, bool ending);

  int socket() const { return socket_.get(); }
  bool wants_write() const { return state_ == State::kWriting && !wake_at_; }
  bool wants_read() const {
    return state_ == State::kReadingHead || state_ == State::kReadingBody || state_ == State::kLingering;
  }
  std::optional<Moment> wake_at() const { return wake_at_; }
  // Between two requests, with nothing of the next one read.
  bool idle() const { return state_ == State::kReadingHead && in_.empty() && served_ > 0; }
  // Nothing of a first request has come yet.
  bool untouched() const { return state_ == State::kReadingHead && in_.empty() && served_ == 0; }
  std::uint64_t served() const { return served_; }
  std::uint64_t accepted() const { return accepted_; }

 private:
  bool read_more();
  State linger(Moment now);
  bool take_head();
  bool take_body(Moment now);
  void answer();
  void answer_with(const char* status, const std::string& body, const std::string& more_headers = "");
  std::string answer_head(const char* status, std::uint64_t length, const std::string& more_headers) const;
  bool write_more(Moment now);
  long write_stream(Moment now);
  void finish_answer(Moment now);

  const AppOptions& options_;
  Descriptor socket_;
  const std::uint64_t accepted_;
  State state_ = State::kReadingHead;
  std::string in_;
  std::string out_;
  std::size_t written_ = 0;
  Request request_;
  std::uint64_t body_left_ = 0;
  Crc32 body_crc_;
  std::uint64_t stream_at_ = 0;
  std::uint64_t stream_end_ = 0;
  std::uint64_t stream_rate_ = 0;  // bytes a second; 0: as fast as it goes
  Moment stream_began_;
  std::optional<Moment> wake_at_;
  bool peer_closed_ = false;
  bool close_after_ = false;
  std::uint64_t served_ = 0;
};

}  // namespace relayd::load
