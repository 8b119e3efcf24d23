#include "tests/load/client/client.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <cerrno>
#include <string>

namespace relayd::load {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kPauseAfterLoss{20};  // so that a dead server is not asked a million times

// A failed connect or transfer, as the ending it means. What is no fault of the server's counts as the
// client's own.
Ending ending_of(int code, bool connecting) {
  switch (code) {
    case ECONNREFUSED:
    case ENOENT:  // Unix sockets: no such file
      return connecting ? Ending::kRefused : Ending::kReset;
    case EAGAIN:  // Unix sockets: the queue of the listener is full
      return connecting ? Ending::kRefused : Ending::kClientError;
    case ECONNRESET:
    case EPIPE:
      return Ending::kReset;
    case ETIMEDOUT:
      return Ending::kTimedOut;
    default:
      return Ending::kClientError;
  }
}

int socket_error(int fd) {
  int code = 0;
  socklen_t length = sizeof code;
  ::getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &length);
  return code;
}

}  // namespace

void Client::on_events(unsigned events, Moment now) {
  switch (state_) {
    case State::kPausing:
      // A kept connection: the server has ended it (or speaks out of turn, which the next answer would show).
      if (socket_) {
        socket_.reset();
        run_.report.connection_closed_between_requests();
      }
      break;
    case State::kConnecting:
      if (const int code = socket_error(socket_.get()); code != 0) {
        end(ending_of(code, true), now, errno_text(code));
        break;
      }
      progress(now);
      state_ = State::kSending;
      send(now);
      break;
    case State::kSending:
      if ((events & (EPOLLIN | EPOLLERR | EPOLLHUP)) != 0) receive(now);
      if (state_ == State::kSending) send(now);
      break;
    case State::kReceiving:
      receive(now);
      break;
    case State::kAwaitingClose:
      await_close(now);
      break;
  }
}

void Client::on_tick(Moment now) {
  if (state_ == State::kPausing) {
    if (now >= next_ && run_.may_begin()) begin(now);
    return;
  }
  if (now - begun_ < run_.options.timeout) return;
  run_.report.waited(now - last_progress_);
  static constexpr const char* kWhere[] = {"", "connecting", "sending the request", "waiting for the answer",
                                           "waiting for the server's close after a whole answer"};
  end(Ending::kTimedOut, now, kWhere[static_cast<int>(state_)]);
}

void Client::begin(Moment now) {
  request_ = ++run_.begun;
  const bool with_body =
      run_.options.protocol == Protocol::kHttp && request_ * 61 % 100 < run_.options.post_percent;
  exchange_ = std::make_unique<Exchange>(
      run_.options, run_.id_prefix + "-" + std::to_string(index_) + "-" + std::to_string(request_),
      with_body);
  sent_ = 0;
  begun_ = last_progress_ = now;
  if (!socket_ && !connect(now)) return;
  exchange_->expect_client(told_);
  if (state_ == State::kConnecting) return;
  state_ = State::kSending;
  send(now);
}

// False where it failed; the request has then ended.
bool Client::connect(Moment now) {
  const SocketAddress& server = run_.options.server;
  socket_.reset(::socket(server.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!socket_) {
    end(Ending::kClientError, now, errno_text(errno));
    return false;
  }
  const int on = 1;
  if (!server.is_unix()) ::setsockopt(socket_.get(), IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  const bool connected = ::connect(socket_.get(), server.get(), server.length()) == 0;
  if (!connected && errno != EINPROGRESS) {
    const int code = errno;
    end(ending_of(code, true), now, errno_text(code));
    return false;
  }
  epoll_event event{};
  event.events = EPOLLIN | (connected ? 0U : static_cast<unsigned>(EPOLLOUT));
  event.data.u32 = index_;
  ::epoll_ctl(run_.epoll, EPOLL_CTL_ADD, socket_.get(), &event);
  run_.report.connected();
  if (!connected) state_ = State::kConnecting;
  introduce();
  return true;
}

// Says who the client of a new connection is, where that is asked for: nearly always another one, of either
// family (from the addresses for documentation, RFC 5737 and RFC 3849).
void Client::introduce() {
  if (!run_.options.proxy_protocol) {
    const auto own = local_address(socket_.get());
    told_ = own ? own->host() + ":" + std::to_string(own->port()) : "";
    return;
  }
  const std::string port = std::to_string(1 + request_ % 65535);
  const std::string host = std::to_string(1 + index_ % 250);
  const bool v6 = request_ % 2 == 0;
  const auto source =
      SocketAddress::parse(v6 ? "[2001:db8::" + host + "]:" + port : "198.51.100." + host + ":" + port);
  const auto destination = SocketAddress::parse(v6 ? "[2001:db8::ffff]:80" : "203.0.113.1:80");
  told_ = source->host() + ":" + port;
  exchange_->put_in_front(encode_proxy_header(*run_.options.proxy_protocol, &*source, &*destination));
}

void Client::watch(bool writable) {
  epoll_event event{};
  event.events = EPOLLIN | (writable ? static_cast<unsigned>(EPOLLOUT) : 0U);
  event.data.u32 = index_;
  ::epoll_ctl(run_.epoll, EPOLL_CTL_MOD, socket_.get(), &event);
}

void Client::progress(Moment now) {
  run_.report.waited(now - last_progress_);
  last_progress_ = now;
}

void Client::send(Moment now) {
  const std::string& text = exchange_->to_send();
  while (sent_ < text.size()) {
    const ssize_t sent = ::send(socket_.get(), text.data() + sent_, text.size() - sent_, MSG_NOSIGNAL);
    if (sent < 0) {
      if (errno == EAGAIN) return watch(true);
      const int code = errno;
      return end(ending_of(code, false), now, errno_text(code) + " while sending");
    }
    sent_ += static_cast<std::size_t>(sent);
    progress(now);
  }
  watch(false);
  state_ = State::kReceiving;
}

void Client::receive(Moment now) {
  char buffer[65536];
  while (true) {
    const ssize_t got = ::recv(socket_.get(), buffer, sizeof buffer, 0);
    if (got < 0) {
      if (errno == EAGAIN) return;
      const int code = errno;
      return end(
          ending_of(code, false), now,
          errno_text(code) + (exchange_->anything_received() ? " in the answer" : " before the answer"));
    }
    if (got == 0) return end(exchange_->ended_by_close(), now, "the server closed");
    progress(now);
    const bool whole = exchange_->receive({buffer, static_cast<std::size_t>(got)});
    if (!whole) continue;
    if (exchange_->ending() != Ending::kAnswered)
      return end(exchange_->ending(), now, exchange_->complaint());
    if (sent_ < exchange_->to_send().size()) {
      return end(Ending::kBadBody, now, "an answer before the whole request was sent");
    }
    return answered(now);
  }
}

// HTTP with a connection for each request: the server must close, and must not send more. Else the client
// closes.
void Client::answered(Moment now) {
  if (run_.options.protocol == Protocol::kHttp && (!run_.options.keep_alive || exchange_->server_closes())) {
    state_ = State::kAwaitingClose;
    return await_close(now);
  }
  end(Ending::kAnswered, now);
}

void Client::await_close(Moment now) {
  char buffer[256];
  const ssize_t got = ::recv(socket_.get(), buffer, sizeof buffer, 0);
  if (got > 0) return end(Ending::kBadBody, now, "more than the answer came");
  if (got < 0 && errno == EAGAIN) return;
  // An RST here comes after the whole answer: nothing of it is lost.
  end(Ending::kAnswered, now);
}

void Client::end(Ending ending, Moment now, const std::string& complaint) {
  run_.report.ended(ending, *exchange_, index_, request_, run_.begun, begun_, now, complaint);
  const bool keep = ending == Ending::kAnswered && run_.options.keep_alive && state_ != State::kAwaitingClose;
  if (!keep) socket_.reset();
  pause(now, ending != Ending::kAnswered);
}

void Client::pause(Moment now, bool failed) {
  state_ = State::kPausing;
  next_ = now + std::max(run_.options.think, failed ? kPauseAfterLoss : milliseconds(0));
  if (now >= next_ && run_.may_begin()) next_ = now;
}

}  // namespace relayd::load
