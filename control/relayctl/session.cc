#include "control/relayctl/session.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <ctime>

#include "control/relayctl/interrupt.h"
#include "proxy/base/address.h"

namespace relayd::relayctl {
namespace {

// A signal that comes just before poll(2) is seen after this at the latest.
constexpr Duration kSlice{200};
constexpr std::size_t kLongestAnswer = std::size_t{64} << 20;  // bytes; a table of some 100,000 connections

Ending cannot_connect(const std::string& path, int code) {
  switch (code) {
    case EACCES:
    case EPERM:
      return {kExitNotPermitted, path + ": you may not control this relayd (" + errno_text(code) +
                                     "); run relayctl as its user or root, or join control.group"};
    case ENOENT:
      return {kExitNoRelayd,
              "no relayd at " + path +
                  ": there is no such socket; start relayd, or name its socket with "
                  "--socket PATH or RELAYD_SOCKET; if somebody has removed it, HUP makes it again"};
    case ECONNREFUSED:
      return {kExitNoRelayd,
              "no relayd at " + path + ": nobody listens at the socket; relayd has ended or is starting"};
    default:
      return {kExitNoRelayd, "no relayd at " + path + ": " + errno_text(code)};
  }
}

}  // namespace

Attempt<Session> Session::open(const std::string& path) {
  const auto address = SocketAddress::unix_path(path);
  if (!address) return std::unexpected(Ending{kExitUsage, address.error().message});
  Descriptor fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd) return std::unexpected(Ending{kExitFailed, "cannot make a socket: " + errno_text(errno)});
  const TimePoint end = monotonic_now() + kConnect;
  while (::connect(fd.get(), address->get(), address->length()) != 0) {
    const int code = errno;
    if (const auto signal = interrupted()) return std::unexpected(Ending{*signal, ""});
    if (code == EAGAIN &&
        monotonic_now() < end) {  // its backlog is full; a Unix socket cannot wait for that by poll(2)
      const timespec pause{0, 20'000'000};
      ::nanosleep(&pause, nullptr);
      continue;
    }
    if (code == EINTR) continue;
    if (code == EISCONN) break;
    return std::unexpected(cannot_connect(path, code));
  }
  Session session(std::move(fd), path);
  const auto answer = session.ask(control::VersionCall{}, end);
  if (!answer) {
    if (answer.error().code == kExitTimeout) {
      return std::unexpected(
          Ending{kExitNoRelayd, path + ": somebody listens, but does not answer; is relayd stopped "
                                       "(SIGSTOP) or is this another program's socket?"});
    }
    return std::unexpected(answer.error());
  }
  const auto info = control::read_version(*answer);
  if (!info || info->name != "relayd") {
    return std::unexpected(Ending{kExitNoRelayd, path + ": what answers there is not relayd"});
  }
  return session;
}

Ending Session::gone() const {
  return {kExitNoRelayd, "relayd at " + path_ + " went away before it answered; see its log"};
}

Attempt<std::uint64_t> Session::send(const control::Call& call) {
  const std::uint64_t id = next_id_++;
  const std::string line = control::write_request(id, call);
  std::size_t sent = 0;
  const TimePoint end = monotonic_now() + kSilence;
  while (sent < line.size()) {
    const ssize_t count = ::send(fd_.get(), line.data() + sent, line.size() - sent, MSG_NOSIGNAL);
    if (count >= 0) {
      sent += static_cast<std::size_t>(count);
    } else if (errno == EPIPE || errno == ECONNRESET) {
      break;  // why it closed may still be there to be read
    } else if (errno == EAGAIN && monotonic_now() < end) {
      pollfd state{fd_.get(), POLLOUT, 0};
      ::poll(&state, 1, static_cast<int>(kSlice.count()));
      if (const auto signal = interrupted()) return std::unexpected(Ending{*signal, ""});
    } else if (errno != EINTR) {
      return std::unexpected(gone());
    }
  }
  return id;
}

// One read, or until `until`, or a slice.
Attempt<void> Session::read_more(TimePoint until) {
  const Duration wait = std::clamp(until - monotonic_now(), Duration::zero(), kSlice);
  pollfd state{fd_.get(), POLLIN, 0};
  ::poll(&state, 1, static_cast<int>(wait.count()));
  if (const auto signal = interrupted()) return std::unexpected(Ending{*signal, ""});
  char bytes[65536];
  const ssize_t count = ::recv(fd_.get(), bytes, sizeof bytes, MSG_DONTWAIT);
  if (count > 0) {
    input_.append(bytes, static_cast<std::size_t>(count));
    heard_ = monotonic_now();
    if (input_.size() > kLongestAnswer)
      return std::unexpected(Ending{kExitFailed, "relayd's answer does not end"});
  } else if (count == 0 || (errno != EAGAIN && errno != EINTR)) {
    ended_ = true;
  }
  return {};
}

Attempt<void> Session::beat() {
  const TimePoint now = monotonic_now();
  if (now - heard_ > kSilence) {
    return std::unexpected(Ending{kExitNoRelayd, "relayd at " + path_ + " has been silent for " +
                                                     std::to_string(kSilence.count() / 1000) +
                                                     " s; given up"});
  }
  if (now - heard_ < kHeartbeat || now - beaten_ < kHeartbeat) return {};
  beaten_ = now;
  const auto id = send(control::VersionCall{});
  if (!id) return std::unexpected(id.error());
  beat_id_ = *id;
  return {};
}

Attempt<std::optional<control::Message>> Session::receive(TimePoint until) {
  for (;;) {
    if (const std::size_t end = input_.find('\n'); end != std::string::npos) {
      auto message = control::parse_message(std::string_view(input_).substr(0, end));
      input_.erase(0, end + 1);
      if (!message) return std::unexpected(Ending{kExitFailed, path_ + ": " + message.error().message});
      if (message->id && *message->id == beat_id_) continue;
      return std::optional(std::move(*message));
    }
    if (ended_) return std::unexpected(gone());
    if (monotonic_now() >= until) return std::optional<control::Message>();
    if (auto alive = beat(); !alive) return std::unexpected(alive.error());
    if (auto more = read_more(until); !more) return std::unexpected(more.error());
  }
}

Attempt<std::string> Session::ask(const control::Call& call, Deadline until) {
  const auto id = send(call);
  if (!id) return std::unexpected(id.error());
  for (;;) {
    auto message = receive(until.value_or(TimePoint::max()));
    if (!message) return std::unexpected(message.error());
    if (!*message) return std::unexpected(Ending{kExitTimeout, ""});
    control::Message& reply = **message;
    if (reply.kind == control::Message::Kind::kEvent || (reply.id && *reply.id != *id)) continue;
    if (reply.failure) return std::unexpected(ending_of(*reply.failure));
    return std::move(reply.body);
  }
}

Attempt<std::string> Session::ask_now(const control::Call& call) {
  auto body = ask(call, monotonic_now() + kAnswer);
  if (!body && body.error().code == kExitTimeout) {
    return std::unexpected(Ending{kExitNoRelayd, "relayd at " + path_ + " does not answer"});
  }
  return body;
}

Attempt<bool> Session::wait_for_end(Deadline until) {
  while (!ended_) {
    if (until && monotonic_now() >= *until) return false;
    input_.clear();
    if (auto alive = beat(); !alive) return std::unexpected(alive.error());
    if (auto more = read_more(until.value_or(TimePoint::max())); !more) return std::unexpected(more.error());
  }
  return true;
}

Ending ending_of(const control::Failure& failure) {
  using control::ErrorCode;
  switch (failure.code) {
    case ErrorCode::kBusy:
      return {kExitBusy, failure.message};
    case ErrorCode::kNotPermitted:
      return {kExitNotPermitted, failure.message};
    case ErrorCode::kNoSuchService:
    case ErrorCode::kNotBuilt:
    case ErrorCode::kInvalidParams:
    case ErrorCode::kMethodNotFound:
      return {kExitUsage, failure.message};
    default:
      return {kExitFailed, failure.message};
  }
}

}  // namespace relayd::relayctl
