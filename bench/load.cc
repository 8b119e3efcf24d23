// The load of the benchmark: one thread, one epoll set. Each kind of work ends with one line of JSON: units
// done, errors by kind (any error voids the figure), seconds, and the CPU time of the load itself.
//   bench_load connect ADDRESS COUNT CONCURRENCY server|client    who closes first
//   bench_load roundtrip ADDRESS COUNT CONNECTIONS
//   bench_load bulk ADDRESS BYTES STREAMS                         BYTES in all
//   bench_load idle ADDRESS       reads "open N" and "bulk BYTES" (on each connection), a line each, answers
//                                 each by a line of JSON, and ends with its input
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "bench/work.h"
#include "proxy/base/address.h"

namespace relayd::bench {
namespace {

constexpr int kBatch = 256;
constexpr std::size_t kTripSize = 128;
constexpr std::size_t kBufferSize = std::size_t{256} * 1024;
constexpr int kSilenceLimit = 10000;  // ms; after so long without an event all that is under way has failed
constexpr std::uint64_t kIdleAtOnce = 16;

// One request and its answer, which is known by its length, and perhaps the end of the connection after it.
struct Session {
  int fd = -1;
  std::vector<char> request;  // not sent yet
  std::uint64_t to_receive = 0;
  bool await_end = false;
  bool busy = false;
};

struct Errors {
  std::uint64_t refused = 0, reset = 0, truncated = 0, timed_out = 0, other = 0;

  void note(int error) {
    if (error == ECONNREFUSED) {
      ++refused;
    } else if (error == ECONNRESET || error == EPIPE) {
      ++reset;
    } else {
      ++other;
      std::fprintf(stderr, "bench_load: %s\n", errno_text(error).c_str());
    }
  }
};

std::vector<char> text_request(char kind, std::size_t size) { return std::vector<char>(size, kind); }
std::vector<char> bulk_request(std::uint64_t bytes) {
  const BulkRequest request{.bytes = bytes};
  std::vector<char> packed(sizeof request);
  std::memcpy(packed.data(), &request, sizeof request);
  return packed;
}

class Load {
 public:
  explicit Load(const SocketAddress& address) : address_(address), epoll_(::epoll_create1(EPOLL_CLOEXEC)) {}

  // Runs when a session has what it asked for; it may begin the next request on it, close it, or leave it be.
  std::function<void(Session&)> done;

  std::uint64_t units = 0;
  Errors errors;

  // False where the connect failed, which is counted.
  bool open(Session& session) {
    session = Session{};
    session.fd = ::socket(address_.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (session.fd >= 0 && prepare(session.fd) &&
        (::connect(session.fd, address_.get(), address_.length()) == 0 || errno == EINPROGRESS)) {
      epoll_event event{};
      event.events = EPOLLIN | EPOLLOUT | EPOLLET;
      event.data.ptr = &session;
      if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, session.fd, &event) == 0) return true;
    }
    fail(session, errno);
    return false;
  }

  void begin(Session& session, std::vector<char> request, std::uint64_t answer, bool await_end = false) {
    session.request = std::move(request);
    session.to_receive = answer;
    session.await_end = await_end;
    session.busy = true;
    ++busy_;
    send_request(session);
  }

  void close(Session& session) {
    if (session.fd >= 0) ::close(session.fd);
    session.fd = -1;
  }

  // Until nothing is under way.
  void run() {
    epoll_event events[kBatch];
    while (busy_ > 0) {
      const int count = ::epoll_wait(epoll_.get(), events, kBatch, kSilenceLimit);
      if (count == 0) {
        errors.timed_out += busy_;
        return;
      }
      for (int i = 0; i < count; ++i) advance(*static_cast<Session*>(events[i].data.ptr));
    }
  }

 private:
  // A source address of its own for every so many connections: those that the load closes first stay behind
  // in TIME_WAIT, and would use up the ports of one address.
  bool prepare(int fd) {
    const int on = 1;
    if (address_.is_unix()) return true;
    ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (address_.family() != AF_INET) return true;
    ::setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
    sockaddr_in source{};
    source.sin_family = AF_INET;
    source.sin_addr.s_addr = htonl(INADDR_LOOPBACK + 1 + opened_++ / 64 % 200);
    return ::bind(fd, reinterpret_cast<const sockaddr*>(&source), sizeof source) == 0;
  }

  void send_request(Session& session) {
    const ssize_t sent = ::send(session.fd, session.request.data(), session.request.size(), MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno != EAGAIN) fail(session, errno);
      return;
    }
    session.request.erase(session.request.begin(), session.request.begin() + sent);
  }

  void advance(Session& session) {
    if (!session.busy) return;
    if (!session.request.empty()) {
      send_request(session);
      if (!session.busy) return;
    }
    for (;;) {
      const ssize_t got = ::recv(session.fd, buffer_, sizeof buffer_, 0);
      if (got < 0) {
        if (errno != EAGAIN) fail(session, errno);
        return;
      }
      if (got == 0) {
        end(session);
        return;
      }
      const auto size = static_cast<std::uint64_t>(got);
      if (size > session.to_receive) {
        std::fprintf(stderr, "bench_load: more bytes came than were asked for\n");
        fail(session, EPROTO);
        return;
      }
      session.to_receive -= size;
      if (session.to_receive == 0 && !session.await_end) {
        finish(session);
        return;
      }
    }
  }

  void end(Session& session) {
    if (session.to_receive == 0 && session.await_end) {
      finish(session);
      return;
    }
    ++errors.truncated;
    --busy_;
    session.busy = false;
    close(session);
  }

  void finish(Session& session) {
    session.busy = false;
    --busy_;
    ++units;
    done(session);
  }

  void fail(Session& session, int error) {
    errors.note(error);
    if (session.busy) --busy_;
    session.busy = false;
    close(session);
  }

  SocketAddress address_;
  Descriptor epoll_;
  std::uint64_t busy_ = 0;
  unsigned opened_ = 0;
  char buffer_[kBufferSize];
};

double cpu_seconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

class Report {
 public:
  void print(const Load& load, std::uint64_t units) const {
    const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - began_;
    const Errors& errors = load.errors;
    std::printf(
        R"({"units": %llu, "errors": {"refused": %llu, "reset": %llu, "truncated": %llu, "timed_out": %llu, "other": %llu}, "seconds": %.6f, "cpu_seconds": %.6f})"
        "\n",
        as_long(units), as_long(errors.refused), as_long(errors.reset), as_long(errors.truncated),
        as_long(errors.timed_out), as_long(errors.other), passed.count(), cpu_seconds() - cpu_);
    std::fflush(stdout);
  }

 private:
  static unsigned long long as_long(std::uint64_t number) { return number; }

  std::chrono::steady_clock::time_point began_ = std::chrono::steady_clock::now();
  double cpu_ = cpu_seconds();
};

void connects(Load& load, std::uint64_t count, std::uint64_t concurrency, bool server_closes) {
  std::vector<Session> sessions(std::min(count, concurrency));
  std::uint64_t left = count;
  const auto next = [&](Session& session) {
    load.close(session);
    while (left > 0) {
      --left;
      if (!load.open(session)) continue;
      load.begin(session, text_request(server_closes ? kOnce : kEcho, kOnceSize), kOnceSize, server_closes);
      if (session.busy) return;
    }
  };
  load.done = next;
  const Report report;
  for (Session& session : sessions) next(session);
  load.run();
  report.print(load, load.units);
}

void round_trips(Load& load, std::uint64_t count, std::uint64_t connections) {
  std::vector<Session> sessions(connections);
  const auto ask = [&](Session& session) { load.begin(session, text_request(kEcho, kTripSize), kTripSize); };
  load.done = [](Session&) {};
  for (Session& session : sessions) {
    if (load.open(session)) ask(session);
  }
  load.run();
  load.units = 0;
  std::uint64_t left = count;
  load.done = [&](Session& session) {
    if (left == 0) return;
    --left;
    ask(session);
  };
  const Report report;
  for (Session& session : sessions) {
    if (session.fd >= 0 && left > 0) {
      --left;
      ask(session);
    }
  }
  load.run();
  report.print(load, load.units);
}

void bulk(Load& load, std::uint64_t bytes, std::uint64_t streams) {
  std::vector<Session> sessions(streams);
  load.done = [](Session&) {};
  const Report report;
  for (Session& session : sessions) {
    if (load.open(session)) load.begin(session, bulk_request(bytes / streams), bytes / streams);
  }
  load.run();
  report.print(load, load.units * (bytes / streams));
}

// Calls `start` for each number below `count`, a few at a time.
void by_few(Load& load, std::uint64_t count, const std::function<void(std::uint64_t)>& start) {
  std::uint64_t next = 0;
  load.units = 0;
  load.done = [&](Session&) {
    if (next < count) start(next++);
  };
  const Report report;
  while (next < std::min(count, kIdleAtOnce)) start(next++);
  load.run();
  report.print(load, load.units);
}

void idle(Load& load) {
  std::vector<Session> sessions;
  sessions.reserve(20000);  // the load keeps their addresses
  char word[16];
  unsigned long long number = 0;
  while (std::scanf("%15s %llu", word, &number) == 2) {
    if (std::strcmp(word, "open") == 0) {
      const std::size_t before = sessions.size();
      sessions.resize(std::min<std::size_t>(before + number, sessions.capacity()));
      by_few(load, sessions.size() - before, [&](std::uint64_t i) {
        Session& session = sessions[before + i];
        if (load.open(session)) load.begin(session, bulk_request(kOnceSize), kOnceSize);
      });
    } else {
      by_few(load, sessions.size(), [&](std::uint64_t i) {
        if (sessions[i].fd >= 0) load.begin(sessions[i], bulk_request(number), number);
      });
    }
  }
}

}  // namespace
}  // namespace relayd::bench

int main(int argc, char** argv) {
  using namespace relayd;
  const auto number = [&](int i) { return argc > i ? std::strtoull(argv[i], nullptr, 10) : 0ULL; };
  const std::string work = argc > 2 ? argv[1] : "";
  const auto address = argc > 2 ? SocketAddress::parse(argv[2]) : Result<SocketAddress>(fail("no address"));
  if (!address) {
    std::fprintf(stderr, "bench_load: %s; the top of load.cc shows the usage\n",
                 address.error().message.c_str());
    return 2;
  }
  static bench::Load load(*address);
  if (work == "connect" && number(4) > 0) {
    bench::connects(load, number(3), number(4), argc < 6 || std::strcmp(argv[5], "client") != 0);
  } else if (work == "roundtrip" && number(4) > 0) {
    bench::round_trips(load, number(3), number(4));
  } else if (work == "bulk" && number(4) > 0) {
    bench::bulk(load, number(3), number(4));
  } else if (work == "idle") {
    bench::idle(load);
  } else {
    std::fprintf(stderr, "bench_load: unknown work '%s'; the top of load.cc shows the usage\n", work.c_str());
    return 2;
  }
  return 0;
}
