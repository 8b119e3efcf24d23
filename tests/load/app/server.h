#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "proxy/base/descriptor.h"
#include "tests/load/app/connection.h"

namespace relayd::load {

// The demo's app: a small HTTP/1.1 server on one epoll loop. It accepts in the order of the kernel's queue
// and numbers what it accepts (X-Accepted), so that a client can tell whether it was served in turn.
class Server {
 public:
  // `signals` is a signalfd of TERM and INT. Owns both descriptors.
  Server(const AppOptions& options, Descriptor listener, Descriptor signals);
  // Serves until TERM; then accepts no more, finishes what it has, and returns the exit status.
  int run();

 private:
  void accept_all();
  void on_connection(std::uint64_t id, unsigned events);
  void advance(Connection& connection);
  void begin_to_end();
  void on_time(Moment now);
  int next_timeout(Moment now) const;

  const AppOptions options_;
  Descriptor listener_;
  Descriptor signals_;
  Descriptor epoll_;
  std::uint64_t accepted_ = 0;
  bool ending_ = false;
  std::map<std::uint64_t, std::unique_ptr<Connection>> connections_;
  std::multimap<Moment, std::uint64_t> timers_;  // connections to look at again; stale entries do no harm
  Moment dies_at_ = Moment::max();
};

}  // namespace relayd::load
