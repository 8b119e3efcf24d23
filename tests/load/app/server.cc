#include "tests/load/app/server.h"

#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <utility>

namespace relayd::load {
namespace {

using std::chrono::milliseconds;

constexpr std::uint64_t kListener = UINT64_MAX;
constexpr std::uint64_t kSignals = UINT64_MAX - 1;
constexpr milliseconds kFirstRequest{
    2000};  // while ending: how long a client may still send its first request

Moment moment() { return std::chrono::steady_clock::now(); }

void watch(int epoll, int operation, int fd, std::uint64_t id, unsigned events) {
  epoll_event event{};
  event.events = events;
  event.data.u64 = id;
  ::epoll_ctl(epoll, operation, fd, &event);
}

}  // namespace

Server::Server(const AppOptions& options, Descriptor listener, Descriptor signals)
    : options_(options),
      listener_(std::move(listener)),
      signals_(std::move(signals)),
      epoll_(::epoll_create1(EPOLL_CLOEXEC)) {
  watch(epoll_.get(), EPOLL_CTL_ADD, listener_.get(), kListener, EPOLLIN);
  watch(epoll_.get(), EPOLL_CTL_ADD, signals_.get(), kSignals, EPOLLIN);
}

int Server::run() {
  while (!ending_ || !connections_.empty()) {
    std::array<epoll_event, 256> events{};
    const int count =
        ::epoll_wait(epoll_.get(), events.data(), static_cast<int>(events.size()), next_timeout(moment()));
    for (int i = 0; i < count; ++i) {
      const epoll_event& event = events[static_cast<std::size_t>(i)];
      if (event.data.u64 == kListener) {
        accept_all();
      } else if (event.data.u64 == kSignals) {
        signalfd_siginfo info{};
        if (::read(signals_.get(), &info, sizeof info) > 0 && !options_.ignore_term) begin_to_end();
      } else {
        on_connection(event.data.u64, event.events);
      }
    }
    on_time(moment());
  }
  return 0;
}

void Server::accept_all() {
  while (true) {
    Descriptor socket(::accept4(listener_.get(), nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC));
    if (!socket) return;
    const std::uint64_t id = ++accepted_;
    watch(epoll_.get(), EPOLL_CTL_ADD, socket.get(), id, EPOLLIN);
    connections_.emplace(id, std::make_unique<Connection>(options_, std::move(socket), id));
    if (options_.failing == Failing::kDieAfterReady && dies_at_ == Moment::max()) {
      dies_at_ = moment() + milliseconds(options_.die_ms);
    }
  }
}

void Server::on_connection(std::uint64_t id, unsigned events) {
  const auto found = connections_.find(id);
  if (found == connections_.end()) return;
  if ((events & (EPOLLERR | EPOLLHUP)) != 0) {
    connections_.erase(found);
  } else {
    advance(*found->second);
  }
}

void Server::advance(Connection& connection) {
  const auto state = connection.advance(moment(), ending_);
  if (state == Connection::State::kClosed || (ending_ && connection.idle())) {
    connections_.erase(connection.accepted());
    return;
  }
  const unsigned events = (connection.wants_read() ? static_cast<unsigned>(EPOLLIN) : 0U) |
                          (connection.wants_write() ? static_cast<unsigned>(EPOLLOUT) : 0U);
  watch(epoll_.get(), EPOLL_CTL_MOD, connection.socket(), connection.accepted(), events);
  if (connection.wake_at()) timers_.emplace(*connection.wake_at(), connection.accepted());
}

void Server::begin_to_end() {
  if (std::exchange(ending_, true)) return;
  accept_all();
  listener_.reset();
  std::vector<std::uint64_t> idle;
  for (const auto& [id, connection] : connections_) {
    if (connection->idle()) idle.push_back(id);
    if (connection->served() == 0) timers_.emplace(moment() + kFirstRequest, id);
  }
  for (const std::uint64_t id : idle) connections_.erase(id);
}

void Server::on_time(Moment now) {
  if (now >= dies_at_) {
    std::fprintf(stderr, "demo_app: dying after it was ready, as asked\n");
    std::_Exit(7);
  }
  while (!timers_.empty() && timers_.begin()->first <= now) {
    const std::uint64_t id = timers_.begin()->second;
    timers_.erase(timers_.begin());
    const auto found = connections_.find(id);
    if (found == connections_.end()) continue;
    if (ending_ && found->second->untouched()) {
      connections_.erase(found);
    } else {
      advance(*found->second);
    }
  }
}

int Server::next_timeout(Moment now) const {
  Moment next = dies_at_;
  if (!timers_.empty()) next = std::min(next, timers_.begin()->first);
  if (next == Moment::max()) return -1;
  const auto left = std::chrono::ceil<milliseconds>(next - now).count();
  return left > 0 ? static_cast<int>(left) : 0;
}

}  // namespace relayd::load
