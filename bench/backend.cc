// The backend of the benchmark: bench_backend ADDRESS, or a listening socket that was passed (fd:3). One
// thread, one epoll set; ends by SIGTERM. It speaks what work.h says and does as little as it can, since it
// shares a core with the load.
#include <fcntl.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "bench/work.h"
#include "proxy/base/address.h"

namespace relayd::bench {
namespace {

constexpr int kBacklog = 4096;
constexpr int kBatch = 256;
constexpr std::size_t kBufferSize = std::size_t{256} * 1024;
// Of one bulk answer in one turn, so that the streams keep pace with each other.
constexpr std::size_t kShare = std::size_t{1024} * 1024;

struct Client {
  char kind = 0;             // 0: has said nothing yet
  std::size_t received = 0;  // of kOnceSize, of kPageRequest, or of `request`
  BulkRequest request;
  std::uint64_t to_send = 0;  // of a bulk answer
  std::vector<char> unsent;   // of an echo
  bool waits_to_write = false;
};

class Backend {
 public:
  explicit Backend(Descriptor listener)
      : listener_(std::move(listener)), epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
    watch(listener_.get(), EPOLLIN, EPOLL_CTL_ADD);
  }

  [[noreturn]] void run() {
    epoll_event events[kBatch];
    for (;;) {
      const int count = ::epoll_wait(epoll_.get(), events, kBatch, -1);
      for (int i = 0; i < count; ++i) {
        const int fd = events[i].data.fd;
        if (fd == listener_.get()) {
          accept_some();
        } else if (!serve(fd, events[i].events)) {
          ::close(fd);
        }
      }
    }
  }

 private:
  void watch(int fd, std::uint32_t events, int operation) {
    epoll_event event{};
    event.events = events;
    event.data.fd = fd;
    if (::epoll_ctl(epoll_.get(), operation, fd, &event) != 0) std::perror("bench_backend: epoll_ctl");
  }

  void accept_some() {
    for (int i = 0; i < 16; ++i) {
      const int fd = ::accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
      if (fd < 0) {
        if (errno != EAGAIN) std::perror("bench_backend: accept4");
        return;
      }
      const auto slot = static_cast<std::size_t>(fd);
      if (clients_.size() <= slot) clients_.resize(slot + 1);
      clients_[slot] = Client{};
      watch(fd, EPOLLIN, EPOLL_CTL_ADD);
    }
  }

  // False where the connection is over.
  bool serve(int fd, std::uint32_t events) {
    Client& client = clients_[static_cast<std::size_t>(fd)];
    if ((events & EPOLLOUT) && !send_rest(fd, client)) return false;
    if (!(events & (EPOLLIN | EPOLLHUP | EPOLLERR))) return true;
    const ssize_t got = ::recv(fd, buffer_, sizeof buffer_, 0);
    if (got < 0) return errno == EAGAIN;
    if (got == 0) return false;
    if (client.kind == 0) client.kind = buffer_[0];
    const auto size = static_cast<std::size_t>(got);
    switch (client.kind) {
      case kEcho:
        return echo(fd, client, size);
      case kOnce:
        client.received += size;
        if (client.received < kOnceSize) return true;
        ::send(fd, buffer_, kOnceSize, MSG_NOSIGNAL);
        return false;
      case kPage:
        return answer_pages(fd, client, size);
      case kHttp:
        return answer_http(fd, client, size);
      case kBulk:
        return take_requests(fd, client, size);
      default:
        std::fprintf(stderr, "bench_backend: a connection began with an unknown byte %d\n", client.kind);
        return false;
    }
  }

  bool echo(int fd, Client& client, std::size_t size) {
    std::size_t sent = 0;
    if (client.unsent.empty()) {
      const ssize_t result = ::send(fd, buffer_, size, MSG_NOSIGNAL);
      if (result < 0 && errno != EAGAIN) return false;
      sent = static_cast<std::size_t>(std::max<ssize_t>(result, 0));
    }
    client.unsent.insert(client.unsent.end(), buffer_ + sent, buffer_ + size);
    wait_to_write(fd, client, !client.unsent.empty());
    return true;
  }

  bool answer_pages(int fd, Client& client, std::size_t size) {
    client.received += size;
    for (; client.received >= kPageRequest; client.received -= kPageRequest) client.to_send += kPageAnswer;
    return send_rest(fd, client);
  }

  // One request at a time; on loopback such a small one comes in one piece, or its end is the last that
  // comes.
  bool answer_http(int fd, Client& client, std::size_t size) {
    static const std::string answer =
        "HTTP/1.1 200 OK\r\nServer: bench_backend\r\nContent-Type: text/html\r\nContent-Length: " +
        std::to_string(kHttpBody) + "\r\n\r\n" + std::string(kHttpBody - 1, 'x') + kLastOfBody;
    if (!std::string_view(buffer_, size).ends_with("\r\n\r\n")) return true;
    client.unsent.insert(client.unsent.end(), answer.begin(), answer.end());
    return send_rest(fd, client);
  }

  // The load asks for the next answer only when it has the last one.
  bool take_requests(int fd, Client& client, std::size_t size) {
    if (client.received + size > sizeof client.request) return false;
    std::memcpy(reinterpret_cast<char*>(&client.request) + client.received, buffer_, size);
    client.received += size;
    if (client.received < sizeof client.request) return true;
    client.received = 0;
    client.to_send = client.request.bytes;
    return send_rest(fd, client);
  }

  bool send_rest(int fd, Client& client) {
    if (!client.unsent.empty()) {
      const ssize_t sent = ::send(fd, client.unsent.data(), client.unsent.size(), MSG_NOSIGNAL);
      if (sent < 0) return errno == EAGAIN;
      client.unsent.erase(client.unsent.begin(), client.unsent.begin() + sent);
    }
    for (std::size_t share = kShare; client.to_send > 0 && share > 0;) {
      const std::size_t size = std::min({client.to_send, std::uint64_t{kBufferSize}, std::uint64_t{share}});
      const ssize_t sent = ::send(fd, zeros_, size, MSG_NOSIGNAL);
      if (sent < 0 && errno == EAGAIN) break;
      if (sent < 0) return false;
      client.to_send -= static_cast<std::uint64_t>(sent);
      share -= static_cast<std::size_t>(sent);
    }
    wait_to_write(fd, client, client.to_send > 0 || !client.unsent.empty());
    return true;
  }

  void wait_to_write(int fd, Client& client, bool on) {
    if (client.waits_to_write == on) return;
    client.waits_to_write = on;
    watch(fd, on ? EPOLLIN | EPOLLOUT : EPOLLIN, EPOLL_CTL_MOD);
  }

  Descriptor listener_;
  Descriptor epoll_;
  std::vector<Client> clients_;  // by descriptor
  char buffer_[kBufferSize] = {};
  char zeros_[kBufferSize] = {};
};

}  // namespace
}  // namespace relayd::bench

int main(int argc, char** argv) {
  using namespace relayd;
  if (argc != 2) {
    std::fprintf(stderr, "usage: bench_backend ADDRESS    (127.0.0.1:80, unix:/path, fd:3)\n");
    return 2;
  }
  if (std::string_view(argv[1]) == "fd:3") {
    ::fcntl(3, F_SETFL, ::fcntl(3, F_GETFL) | O_NONBLOCK);
    static bench::Backend backend(Descriptor(3));
    backend.run();
  }
  const auto address = SocketAddress::parse(argv[1]);
  if (!address) {
    std::fprintf(stderr, "bench_backend: %s\n", address.error().message.c_str());
    return 2;
  }
  auto listener = listen_on(*address, bench::kBacklog);
  if (!listener) {
    std::fprintf(stderr, "bench_backend: %s\n", listener.error().message.c_str());
    return 1;
  }
  static bench::Backend backend(std::move(*listener));
  backend.run();
}
