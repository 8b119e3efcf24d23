#pragma once

#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "control/protocol/messages.h"
#include "proxy/rollover/report.h"

namespace relayd {

// What happened lately: each event goes to the log, to the kept ones (the newest kKept), and to whoever
// follows.
class Journal {
 public:
  static constexpr std::size_t kKept = 1000;

  void follow(std::function<void(const control::Event&)> follower) { follower_ = std::move(follower); }
  void record(const std::string& service, const rollover::Happening& happening);
  // Of relayd itself.
  void record(const std::string& type, const std::string& message,
              std::map<std::string, std::string> details = {});
  // For an upgrade of relayd: numbers go on.
  const std::deque<control::Event>& events() const { return events_; }
  std::uint64_t last_sequence() const { return last_sequence_; }
  void restore(const std::vector<control::Event>& events, std::uint64_t last_sequence) {
    events_.assign(events.begin(), events.end());
    last_sequence_ = last_sequence;
  }
  std::vector<control::Event> recent() const { return {events_.begin(), events_.end()}; }

 private:
  void add(control::Event event);

  std::deque<control::Event> events_;
  std::uint64_t last_sequence_ = 0;
  std::function<void(const control::Event&)> follower_;
};

}  // namespace relayd
