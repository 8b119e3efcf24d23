// The floor of the benchmark: bench_floor LISTEN BACKEND. The least that a relay on one libuv loop over one
// edge-triggered epoll set can do, with neither timeouts, nor holding, nor counts, nor care for failures.
// What relayd costs beyond it is relayd's own doing; what it costs itself is the kernel's.
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
#include <vector>

#include "proxy/base/address.h"

namespace relayd::bench {
namespace {

constexpr int kBacklog = 4096;
constexpr int kBatch = 256;
constexpr std::size_t kBufferSize = std::size_t{64} * 1024;

struct Pair {
  int fd[2] = {-1, -1};  // client, backend
  bool readable[2] = {false, false};
  bool writable[2] = {true, false};
  bool ended[2] = {false, false};
  bool hangup[2] = {false, false};
  bool closed = false;
  std::vector<char> parked[2];  // by the side that it came from
};

class Floor {
 public:
  Floor(Descriptor listener, const SocketAddress& backend)
      : listener_(std::move(listener)), backend_(backend) {
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
      const auto key = reinterpret_cast<std::uintptr_t>(events[i].data.ptr);
      if (key == 0) {
        accept_one();
        continue;
      }
      Pair& pair = *reinterpret_cast<Pair*>(key & ~std::uintptr_t{1});
      if (pair.closed) continue;
      const unsigned side = key & 1;
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
    for (const unsigned side : {0U, 1U}) {
      epoll_event event{};
      event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET;
      event.data.ptr = reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(pair) | side);
      ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, pair->fd[side], &event);
    }
  }

  // False where the pair is broken.
  bool move(Pair& pair, unsigned from) {
    const unsigned to = 1 - from;
    for (;;) {
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
      if (static_cast<std::size_t>(got) < sizeof buffer_ && !pair.hangup[from]) pair.readable[from] = false;
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

  void close(Pair& pair) {
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
  std::vector<Pair*> graveyard_;  // events of this batch may still name them
  char buffer_[kBufferSize] = {};
};

}  // namespace
}  // namespace relayd::bench

int main(int argc, char** argv) {
  using namespace relayd;
  if (argc != 3) {
    std::fprintf(stderr, "usage: bench_floor LISTEN BACKEND    (127.0.0.1:80, unix:/path)\n");
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
  static bench::Floor floor(std::move(*listener), *backend);
  floor.run();
}
