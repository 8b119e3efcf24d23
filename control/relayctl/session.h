#pragma once

#include <expected>
#include <optional>
#include <string>

#include "control/protocol/json.h"
#include "control/relayctl/exit_code.h"
#include "proxy/base/descriptor.h"
#include "proxy/base/time.h"

namespace relayd::relayctl {

template <typename T>
using Attempt = std::expected<T, Ending>;

// A conversation with relayd. Blocking, but never for ever: whoever answers at the socket must show a sign of
// life every kSilence, for which version is asked in between.
class Session {
 public:
  static constexpr Duration kConnect{5'000};  // for connect and the first answer
  static constexpr Duration kAnswer{15'000};
  static constexpr Duration kHeartbeat{5'000};
  static constexpr Duration kSilence{30'000};

  // Connects and makes sure that it is relayd who answers.
  static Attempt<Session> open(const std::string& path);

  // Returns the request's id.
  Attempt<std::uint64_t> send(const control::Call& call);
  // The next message, or nothing once `until` has passed. Ends with interrupted()'s code after a signal.
  Attempt<std::optional<control::Message>> receive(TimePoint until);
  // Sends and waits for the reply, the body of which it returns. Other messages that come meanwhile are lost.
  Attempt<std::string> ask(const control::Call& call, Deadline until = std::nullopt);
  // The same for what relayd answers at once: no answer within kAnswer ends as "no relayd".
  Attempt<std::string> ask_now(const control::Call& call);
  // Waits until relayd has closed the connection, which it does when it ends. False: `until` came first.
  Attempt<bool> wait_for_end(Deadline until);

  // Whether relayd has closed the connection.
  bool ended() const { return ended_; }
  const std::string& path() const { return path_; }

 private:
  Session(Descriptor fd, std::string path) : fd_(std::move(fd)), path_(std::move(path)) {}
  Attempt<void> read_more(TimePoint until);
  Attempt<void> beat();
  Ending gone() const;

  Descriptor fd_;
  std::string path_;
  std::string input_;
  std::uint64_t next_id_ = 1;
  std::uint64_t beat_id_ = 0;  // the last heartbeat's; its answer is swallowed
  TimePoint heard_ = monotonic_now();
  TimePoint beaten_ = monotonic_now();
  bool ended_ = false;
};

// How relayctl ends for an error that relayd answered.
Ending ending_of(const control::Failure& failure);

}  // namespace relayd::relayctl
