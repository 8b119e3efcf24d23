#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "proxy/base/descriptor.h"
#include "tests/load/client/exchange.h"
#include "tests/load/client/report.h"

namespace relayd::load {

// What all clients share: who may still begin, and how requests are numbered.
struct Run {
  const Options& options;
  Report& report;
  int epoll;                // not owned; a client is known there by its index
  std::string id_prefix;    // differs between runs
  std::uint64_t begun = 0;  // requests
  bool stopping = false;

  bool may_begin() const { return !stopping && (options.count == 0 || begun < options.count); }
};

// One client: a request, its answer, a pause, the next request. Its owner passes on epoll's events and a
// tick.
class Client {
 public:
  Client(Run& run, unsigned index) : run_(run), index_(index) {}

  void on_events(unsigned events, Moment now);
  // Begins what is due and ends what is overdue; call it at least every few milliseconds.
  void on_tick(Moment now);
  bool busy() const { return state_ != State::kPausing; }

 private:
  // kPausing -> kConnecting -> kSending -> kReceiving [-> kAwaitingClose] -> kPausing; a kept connection goes
  // from kPausing to kSending. Every state can fall to kPausing by an ending other than kAnswered.
  enum class State { kPausing, kConnecting, kSending, kReceiving, kAwaitingClose };

  void begin(Moment now);
  bool connect(Moment now);
  void introduce();
  void send(Moment now);
  void receive(Moment now);
  void await_close(Moment now);
  void answered(Moment now);
  void end(Ending ending, Moment now, const std::string& complaint = "");
  void pause(Moment now, bool failed);
  void watch(bool writable);
  void progress(Moment now);

  Run& run_;
  const unsigned index_;
  State state_ = State::kPausing;
  Descriptor socket_;
  std::unique_ptr<Exchange> exchange_;
  std::string told_;  // who the server is to take this connection's client for: "address:port"
  std::uint64_t request_ = 0;
  std::size_t sent_ = 0;
  Moment begun_{};
  Moment last_progress_{};
  Moment next_{};  // kPausing: when to go on
};

}  // namespace relayd::load
