#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/load/client/exchange.h"

namespace relayd::load {

using Moment = std::chrono::steady_clock::time_point;
using Nanoseconds = std::chrono::nanoseconds;

// Durations by logarithmic classes of 1/32: percentiles to about 3 %, however long the run.
class LatencyTable {
 public:
  void add(Nanoseconds value);
  double percentile_ms(double percent) const;

 private:
  static constexpr unsigned kSteps = 32;
  static unsigned bucket(std::uint64_t microseconds);
  static double middle_ms(unsigned bucket);
  std::array<std::uint64_t, kSteps * 40> counts_{};
  std::uint64_t total_ = 0;
};

// Finds answers out of turn: of the requests that were waiting when a generation gave its first answer, the
// one that connected first must have been accepted first. Only then does "first" mean anything to a client.
class OrderCheck {
 public:
  // `request` counts connections in the order in which they were made.
  void answered(std::uint64_t request, const AnswerFacts& facts, std::uint64_t newest_request);
  std::uint64_t violations() const;
  std::uint64_t compared() const;

 private:
  struct Waiting {
    std::uint64_t newest_at_first_answer = 0;
    std::vector<std::pair<std::uint64_t, std::uint64_t>> accepted;  // request, X-Accepted
  };
  std::map<std::pair<std::string, std::string>, Waiting> instances_;  // by generation and instance
};

// Counts what happened and prints it as JSON.
class Report {
 public:
  explicit Report(const Options& options);

  void ended(Ending ending, const Exchange& exchange, unsigned client, std::uint64_t request,
             std::uint64_t newest_request, Moment begun, Moment now, const std::string& complaint);
  // A client waited this long for the next sign of life: the connection, room to send, or a byte.
  void waited(Nanoseconds time) { longest_stall_ = std::max(longest_stall_, time); }
  void connected() { ++connections_; }
  void connection_closed_between_requests() { ++closed_between_requests_; }
  void unfinished(std::uint64_t requests) { unfinished_ = requests; }
  void print_progress(Moment now, std::uint64_t waiting);
  std::string to_json(Moment now) const;
  // 0: nothing lost; 1: something; 3: the client itself failed.
  int exit_status() const;

 private:
  std::uint64_t lost() const;

  const Options& options_;
  const Moment started_;
  std::map<Ending, std::uint64_t> endings_;
  std::map<std::string, std::uint64_t> generations_;
  std::map<std::string, std::uint64_t> instances_;
  std::map<std::string, std::set<unsigned>> clients_;  // by generation: who was answered by it
  std::vector<std::string> complaints_;                // the first few
  LatencyTable latencies_;
  OrderCheck order_;
  Nanoseconds longest_stall_{0};
  Nanoseconds longest_latency_{0};
  Nanoseconds longest_silence_{0};  // no client got an answer
  Moment last_answer_;
  std::uint64_t connections_ = 0;
  std::uint64_t closed_between_requests_ = 0;
  std::uint64_t unfinished_ = 0;
  std::uint64_t answered_at_last_progress_ = 0;
};

}  // namespace relayd::load
