#pragma once

#include <sys/epoll.h>

#include <chrono>
#include <cstdint>
#include <functional>
#include <vector>

#include "proxy/base/address.h"

// The client side of the benchmark: many connections on one thread and one epoll set.
namespace relayd::bench {

using Clock = std::chrono::steady_clock;

// One request and its answer, which is known by its length, and perhaps the end of the connection after it.
struct Session {
  int fd = -1;
  std::vector<char> request;  // not sent yet
  std::uint64_t to_receive = 0;
  bool await_end = false;
  bool until_mark = false;  // the answer ends with kLastOfBody instead
  bool busy = false;
  Clock::time_point due{};  // for whom measures times
};

struct Errors {
  std::uint64_t refused = 0, reset = 0, truncated = 0, timed_out = 0, other = 0;

  void note(int error);
};

std::vector<char> text_request(char kind, std::size_t size);
std::vector<char> bulk_request(std::uint64_t bytes);

class Load {
 public:
  explicit Load(const SocketAddress& address);

  // Runs when a session has what it asked for; it may begin the next request on it, close it, or leave it be.
  std::function<void(Session&)> done;

  std::uint64_t units = 0;
  Errors errors;

  // False where the connect failed, which is counted. The session must stay where it is until it is closed.
  bool open(Session& session);
  // What fails is counted, and the session is then not busy. With nothing to send and to receive: until it is
  // connected.
  void begin(Session& session, std::vector<char> request, std::uint64_t answer, bool await_end = false);
  void close(Session& session);

  // Until nothing is under way.
  void run();
  // What has happened by now, waiting for the first of it at most so long. False where nothing had.
  bool run_once(std::chrono::nanoseconds limit);
  std::uint64_t busy() const { return busy_; }

 private:
  bool prepare(int fd);
  void send_request(Session& session);
  void advance(Session& session);
  void end(Session& session);
  void finish(Session& session);
  void fail(Session& session, int error);

  static constexpr std::size_t kBufferSize = std::size_t{256} * 1024;

  SocketAddress address_;
  Descriptor epoll_;
  std::uint64_t busy_ = 0;
  unsigned opened_ = 0;
  char buffer_[kBufferSize];
};

// Begins with its construction, and ends with one line of JSON: units, errors by kind (any error voids the
// figure), seconds, and the CPU time of the load itself.
class Report {
 public:
  Report();
  // `more`, where given, is further members of the object, each begun by ", ".
  void print(const Load& load, std::uint64_t units, const std::string& more = "") const;

 private:
  Clock::time_point began_ = Clock::now();
  double cpu_;
};

}  // namespace relayd::bench
