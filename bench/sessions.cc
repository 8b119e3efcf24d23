#include "bench/sessions.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "bench/work.h"

namespace relayd::bench {
namespace {

constexpr int kBatch = 256;
constexpr std::chrono::seconds kSilenceLimit{10};  // without an event, all that is under way has failed

double cpu_seconds() {
  rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  const auto seconds = [](const timeval& time) {
    return static_cast<double>(time.tv_sec) + 1e-6 * static_cast<double>(time.tv_usec);
  };
  return seconds(usage.ru_utime) + seconds(usage.ru_stime);
}

unsigned long long as_long(std::uint64_t number) { return number; }

}  // namespace

void Errors::note(int error) {
  if (error == ECONNREFUSED) {
    ++refused;
  } else if (error == ECONNRESET || error == EPIPE) {
    ++reset;
  } else {
    ++other;
    std::fprintf(stderr, "bench_load: %s\n", errno_text(error).c_str());
  }
}

std::vector<char> text_request(char kind, std::size_t size) { return std::vector<char>(size, kind); }

std::vector<char> bulk_request(std::uint64_t bytes) {
  const BulkRequest request{.bytes = bytes};
  std::vector<char> packed(sizeof request);
  std::memcpy(packed.data(), &request, sizeof request);
  return packed;
}

Load::Load(const SocketAddress& address) : address_(address), epoll_(::epoll_create1(EPOLL_CLOEXEC)) {}

bool Load::open(Session& session) {
  const Clock::time_point due = session.due;
  session = Session{};
  session.due = due;
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

void Load::begin(Session& session, std::vector<char> request, std::uint64_t answer, bool await_end) {
  session.request = std::move(request);
  session.to_receive = answer;
  session.await_end = await_end;
  session.busy = true;
  ++busy_;
  if (!session.request.empty()) send_request(session);
}

void Load::close(Session& session) {
  if (session.fd >= 0) ::close(session.fd);
  session.fd = -1;
}

void Load::run() {
  while (busy_ > 0) {
    if (run_once(kSilenceLimit)) continue;
    errors.timed_out += busy_;
    return;
  }
}

bool Load::run_once(std::chrono::nanoseconds limit) {
  constexpr long kSecond = 1'000'000'000;
  const timespec wait{.tv_sec = limit.count() / kSecond, .tv_nsec = limit.count() % kSecond};
  epoll_event events[kBatch];
  const int count = ::epoll_pwait2(epoll_.get(), events, kBatch, &wait, nullptr);
  for (int i = 0; i < count; ++i) advance(*static_cast<Session*>(events[i].data.ptr));
  return count > 0;
}

// A source address of its own for every so many connections: those that the load closes first stay behind
// in TIME_WAIT, and would use up the ports of one address.
bool Load::prepare(int fd) {
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

void Load::send_request(Session& session) {
  const ssize_t sent = ::send(session.fd, session.request.data(), session.request.size(), MSG_NOSIGNAL);
  if (sent < 0) {
    if (errno != EAGAIN) fail(session, errno);
    return;
  }
  session.request.erase(session.request.begin(), session.request.begin() + sent);
}

void Load::advance(Session& session) {
  if (!session.busy) return;
  if (!session.request.empty()) {
    send_request(session);
    if (!session.busy) return;
  }
  for (;;) {
    const ssize_t got = ::recv(session.fd, buffer_, sizeof buffer_, 0);
    if (got < 0) {
      if (errno != EAGAIN) {
        fail(session, errno);
      } else if (session.to_receive == 0 && !session.await_end) {
        finish(session);
      }
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
    if (session.until_mark && buffer_[size - 1] == kLastOfBody) session.to_receive = 0;
    if (session.to_receive == 0 && !session.await_end) {
      finish(session);
      return;
    }
  }
}

void Load::end(Session& session) {
  if (session.to_receive == 0 && session.await_end) {
    finish(session);
    return;
  }
  ++errors.truncated;
  --busy_;
  session.busy = false;
  close(session);
}

void Load::finish(Session& session) {
  session.busy = false;
  --busy_;
  ++units;
  done(session);
}

void Load::fail(Session& session, int error) {
  errors.note(error);
  if (session.busy) --busy_;
  session.busy = false;
  close(session);
}

Report::Report() : cpu_(cpu_seconds()) {}

void Report::print(const Load& load, std::uint64_t units, const std::string& more) const {
  const std::chrono::duration<double> passed = Clock::now() - began_;
  const Errors& errors = load.errors;
  std::printf(
      R"({"units": %llu, "errors": {"refused": %llu, "reset": %llu, "truncated": %llu, "timed_out": %llu, "other": %llu}, "seconds": %.6f, "cpu_seconds": %.6f%s})"
      "\n",
      as_long(units), as_long(errors.refused), as_long(errors.reset), as_long(errors.truncated),
      as_long(errors.timed_out), as_long(errors.other), passed.count(), cpu_seconds() - cpu_, more.c_str());
  std::fflush(stdout);
}

}  // namespace relayd::bench
