// The floor of the benchmark: bench_floor LISTEN BACKEND [--splice]. The least that a relay on one libuv loop
// over one edge-triggered epoll set can do, with neither timeouts, nor holding, nor counts, nor fairness, nor
// care for failures. What relayd costs beyond it is relayd's own doing; what it costs itself is the kernel's.
// With --splice, bytes go through a pooled pipe as soon as two reads in a row have filled the buffer.
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <utility>
#include <vector>

#include "proxy/base/address.h"

namespace relayd::bench {
namespace {

constexpr int kBacklog = 4096;
constexpr int kBatch = 256;
constexpr std::size_t kBufferSize = std::size_t{64} * 1024;
constexpr int kPipeSize = 1024 * 1024;
constexpr unsigned kSpliceFlags = SPLICE_F_MOVE | SPLICE_F_NONBLOCK;
constexpr std::size_t kSpliceLeast = std::size_t{32} * 1024;  // less at once is cheaper to copy
constexpr int kFullReads = 2;                                 // in a row: then it is bulk

struct Pipe {
  int in;
  int out;
  std::size_t filled;
};

struct Pair {
  unsigned char side[2] = {0, 1};  // comes first, and is what events point to
  int fd[2] = {-1, -1};            // client, backend
  bool readable[2] = {false, false};
  bool writable[2] = {true, false};
  bool ended[2] = {false, false};
  bool hangup[2] = {false, false};
  bool closed = false;
  unsigned char full_reads[2] = {0, 0};  // in a row; more than kFullReads are not counted
  std::vector<char> parked[2];           // by the side that it came from
  Pipe* pipe[2] = {nullptr, nullptr};
};

class Floor {
 public:
  Floor(Descriptor listener, const SocketAddress& backend, bool splices)
      : listener_(std::move(listener)), backend_(backend), splices_(splices) {
    epoll_.reset(::epoll_create1(EPOLL_CLOEXEC));
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.ptr = nullptr;
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, listener_.get(), &event);
    uv_loop_init(&loop_);
    uv_poll_init(&loop_, &poll_, epoll_.get());
    poll_.data = this;
  }

  void run() {
    uv_poll_start(&poll_, UV_READABLE,
                  [](uv_poll_t* poll, int, int) { static_cast<Floor*>(poll->data)->turn(); });
    uv_run(&loop_, UV_RUN_DEFAULT);
  }

 private:
  void turn() {
    epoll_event events[kBatch];
    const int count = ::epoll_wait(epoll_.get(), events, kBatch, 0);
    for (int i = 0; i < count; ++i) {
      auto* const key = static_cast<unsigned char*>(events[i].data.ptr);
      if (key == nullptr) {
        accept_one();
        continue;
      }
      const unsigned side = *key;
      Pair& pair = *reinterpret_cast<Pair*>(key - side);
      if (pair.closed) continue;
      if (events[i].events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) pair.readable[side] = true;
      if (events[i].events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) pair.hangup[side] = true;
      if (events[i].events & EPOLLOUT) pair.writable[side] = true;
      if (!move(pair, 0) || !move(pair, 1) || (pair.ended[0] && pair.ended[1])) close(pair);
    }
    for (Pair* pair : graveyard_) delete pair;
    graveyard_.clear();
  }

  void accept_one() {
    const int client = ::accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (client < 0) return;
    const int backend = ::socket(backend_.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (backend < 0 || (::connect(backend, backend_.get(), backend_.length()) != 0 && errno != EINPROGRESS)) {
      std::perror("bench_floor: connect");
      std::exit(1);
    }
    const int on = 1;
    if (!backend_.is_unix()) ::setsockopt(backend, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    auto* pair = new Pair;
    pair->fd[0] = client;
    pair->fd[1] = backend;
    watch(*pair, 0);
    watch(*pair, 1);
  }

  void watch(Pair& pair, unsigned side) {
    epoll_event event{};
    event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
    event.data.ptr = &pair.side[side];
    ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, pair.fd[side], &event);
  }

  // False where the pair is broken.
  bool move(Pair& pair, unsigned from) {
    const unsigned to = 1 - from;
    if (pair.pipe[from] && !splice_on(pair, from)) return false;
    for (;;) {
      if (pair.pipe[from]) return true;
      if (!pair.writable[to]) return true;
      if (!pair.parked[from].empty()) {
        const ssize_t sent =
            ::send(pair.fd[to], pair.parked[from].data(), pair.parked[from].size(), MSG_NOSIGNAL);
        if (sent < 0 && errno != EAGAIN) return false;
        if (sent > 0) pair.parked[from].erase(pair.parked[from].begin(), pair.parked[from].begin() + sent);
        if (!pair.parked[from].empty()) {
          pair.writable[to] = false;
          return true;
        }
      }
      if (!pair.readable[from] || pair.ended[from]) return true;
      if (splices_ && pair.full_reads[from] >= kFullReads) {
        pair.pipe[from] = borrow();
        if (!splice_on(pair, from)) return false;
        continue;
      }
      const ssize_t got = ::recv(pair.fd[from], buffer_, sizeof buffer_, 0);
      if (got < 0) {
        pair.readable[from] = false;
        return errno == EAGAIN;
      }
      if (got == 0) {
        pair.ended[from] = true;
        if (!pair.ended[to]) ::shutdown(pair.fd[to], SHUT_WR);
        return true;
      }
      const bool full = static_cast<std::size_t>(got) == sizeof buffer_;
      if (!full && !pair.hangup[from]) pair.readable[from] = false;
      if (!full) pair.full_reads[from] = 0;
      if (full && pair.full_reads[from] < kFullReads) ++pair.full_reads[from];
      ssize_t sent = ::send(pair.fd[to], buffer_, static_cast<std::size_t>(got), MSG_NOSIGNAL);
      if (sent < 0 && errno != EAGAIN) return false;
      if (sent < 0) sent = 0;
      if (sent < got) {
        pair.parked[from].assign(buffer_ + sent, buffer_ + got);
        pair.writable[to] = false;
        return true;
      }
    }
  }

  // Until nothing comes or nothing goes; the pipe is given back as soon as it is empty. False where the pair
  // is broken. The end of the input is left for move() to find, and so is what comes in small pieces.
  bool splice_on(Pair& pair, unsigned from) {
    const unsigned to = 1 - from;
    Pipe& pipe = *pair.pipe[from];
    for (;;) {
      if (pipe.filled > 0) {
        if (!pair.writable[to]) return true;
        const ssize_t sent = ::splice(pipe.out, nullptr, pair.fd[to], nullptr, pipe.filled, kSpliceFlags);
        if (sent < 0) {
          pair.writable[to] = false;
          return errno == EAGAIN;
        }
        pipe.filled -= static_cast<std::size_t>(sent);
        continue;
      }
      const ssize_t got = pair.readable[from]
                              ? ::splice(pair.fd[from], nullptr, pipe.in, nullptr, kPipeSize, kSpliceFlags)
                              : 0;
      if (got > 0) {
        pipe.filled = static_cast<std::size_t>(got);
        if (pipe.filled < kSpliceLeast) pair.full_reads[from] = 0;
        continue;
      }
      const bool broken = got < 0 && errno != EAGAIN;
      pool_.push_back(std::exchange(pair.pipe[from], nullptr));
      if (got < 0) {
        pair.readable[from] = false;
      } else if (pair.readable[from]) {
        pair.full_reads[from] = 0;
      }
      return !broken;
    }
  }

  Pipe* borrow() {
    if (pool_.empty()) {
      int ends[2];
      if (::pipe2(ends, O_NONBLOCK | O_CLOEXEC) != 0) {
        std::perror("bench_floor: pipe2");
        std::exit(1);
      }
      ::fcntl(ends[1], F_SETPIPE_SZ, kPipeSize);
      pool_.push_back(new Pipe{.in = ends[1], .out = ends[0], .filled = 0});
    }
    Pipe* const pipe = pool_.back();
    pool_.pop_back();
    return pipe;
  }

  void close(Pair& pair) {
    for (const Pipe* pipe : pair.pipe) {
      if (pipe == nullptr) continue;
      ::close(pipe->in);
      ::close(pipe->out);
      delete pipe;
    }
    ::close(pair.fd[0]);
    ::close(pair.fd[1]);
    pair.closed = true;
    graveyard_.push_back(&pair);
  }

  uv_loop_t loop_{};
  uv_poll_t poll_{};
  Descriptor listener_;
  Descriptor epoll_;
  SocketAddress backend_;
  bool splices_;
  std::vector<Pipe*> pool_;
  std::vector<Pair*> graveyard_;  // events of this batch may still name them
  char buffer_[kBufferSize] = {};
};

}  // namespace
}  // namespace relayd::bench

int main(int argc, char** argv) {
  using namespace relayd;
  const bool splices = argc == 4 && std::strcmp(argv[3], "--splice") == 0;
  if (argc != 3 && !splices) {
    std::fprintf(stderr, "usage: bench_floor LISTEN BACKEND [--splice]    (127.0.0.1:80, unix:/path)\n");
    return 2;
  }
  const auto address = SocketAddress::parse(argv[1]);
  const auto backend = SocketAddress::parse(argv[2]);
  if (!address || !backend) {
    std::fprintf(stderr, "bench_floor: %s\n", (address ? backend : address).error().message.c_str());
    return 2;
  }
  auto listener = listen_on(*address, bench::kBacklog);
  if (!listener) {
    std::fprintf(stderr, "bench_floor: %s\n", listener.error().message.c_str());
    return 1;
  }
  static bench::Floor floor(std::move(*listener), *backend, splices);
  floor.run();
}
