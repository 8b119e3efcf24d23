#include "proxy/backend/notify.h"

#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>

#include "proxy/base/address.h"
#include "proxy/base/log.h"

namespace relayd::backend {
namespace {

constexpr std::size_t kMaxDatagram = 4096;  // bytes; systemd allows 4 KiB too
constexpr std::size_t kMaxStatus = 256;     // bytes kept of a STATUS=
constexpr std::size_t kMaxPassed = 16;      // descriptors taken (and closed) of one message

std::string printable(std::string_view text) {
  std::string out(text.substr(0, kMaxStatus));
  for (char& c : out) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  }
  return out;
}

// The sender's pid, or -1. Descriptors that came along are closed: that is the answer to BARRIER=1, for which
// systemd-notify(1) waits before it ends, so that its pid can still be looked up.
pid_t take_control_data(msghdr& header) {
  pid_t sender = -1;
  for (cmsghdr* part = CMSG_FIRSTHDR(&header); part != nullptr; part = CMSG_NXTHDR(&header, part)) {
    if (part->cmsg_level != SOL_SOCKET) continue;
    if (part->cmsg_type == SCM_CREDENTIALS && part->cmsg_len >= CMSG_LEN(sizeof(ucred))) {
      ucred credentials{};
      std::memcpy(&credentials, CMSG_DATA(part), sizeof credentials);
      sender = credentials.pid;
    } else if (part->cmsg_type == SCM_RIGHTS) {
      const std::size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
      for (std::size_t i = 0; i < count; ++i) {
        int fd = -1;
        std::memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof fd);
        ::close(fd);
      }
    }
  }
  return sender;
}

}  // namespace

NotifyMessage parse_notify(std::string_view datagram) {
  NotifyMessage message;
  while (!datagram.empty()) {
    const std::size_t end = datagram.find('\n');
    const std::string_view line = datagram.substr(0, end);
    if (line == "READY=1") message.ready = true;
    if (line == "STOPPING=1") message.stopping = true;
    if (line.starts_with("STATUS=")) message.status = printable(line.substr(7));
    if (end == std::string_view::npos) break;
    datagram.remove_prefix(end + 1);
  }
  return message;
}

Result<std::unique_ptr<NotifySocket>> NotifySocket::create(
    Loop& loop, std::function<void(const NotifyMessage&)> received) {
  Descriptor socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!socket) return fail_errno("make the notify socket");
  const int on = 1;
  if (::setsockopt(socket.get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof on) != 0)
    return fail_errno("SO_PASSCRED");
  const sa_family_t family =
      AF_UNIX;  // the family alone: the kernel finds a free abstract name (unix(7), autobind)
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&family), sizeof family) != 0) {
    return fail_errno("bind the notify socket");
  }
  const auto address = local_address(socket.get());
  if (!address) return std::unexpected(address.error());
  return adopt(loop, std::move(socket), address->path(), std::move(received));
}

Result<std::unique_ptr<NotifySocket>> NotifySocket::adopt(
    Loop& loop, Descriptor socket, std::string address, std::function<void(const NotifyMessage&)> received) {
  std::unique_ptr<NotifySocket> result(
      new NotifySocket(std::move(socket), std::move(address), std::move(received)));
  NotifySocket* const self = result.get();
  auto watch = Poll::create(loop, self->socket_.get(), UV_READABLE, [self](int) { self->receive(); });
  if (!watch) return std::unexpected(watch.error());
  result->watch_ = std::move(*watch);
  return result;
}

bool NotifySocket::is_ours(pid_t sender) const {
  return sender > 0 && leader_ > 0 && (sender == leader_ || ::getpgid(sender) == leader_);
}

// One datagram at a time: the callback may destroy this, and the loop comes back while there are more.
void NotifySocket::receive() {
  char text[kMaxDatagram];
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(ucred)) + CMSG_SPACE(kMaxPassed * sizeof(int))];
  iovec part{text, sizeof text};
  msghdr header{};
  header.msg_iov = &part;
  header.msg_iovlen = 1;
  header.msg_control = control;
  header.msg_controllen = sizeof control;
  const ssize_t got = ::recvmsg(socket_.get(), &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
  if (got < 0) return;
  const pid_t sender = take_control_data(header);
  if (!is_ours(sender)) {
    log::debug("ignored a message to NOTIFY_SOCKET from outside the instance's process group",
               {{"sender", static_cast<std::int64_t>(sender)},
                {"instance_pid", static_cast<std::int64_t>(leader_)}});
    return;
  }
  if ((header.msg_flags & MSG_TRUNC) != 0) return;  // half a message could say what was not meant
  const auto callback = received_;
  callback(parse_notify(std::string_view(text, static_cast<std::size_t>(got))));
}

}  // namespace relayd::backend
