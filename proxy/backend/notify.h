#pragma once

#include <sys/types.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "proxy/base/descriptor.h"
#include "proxy/base/loop.h"

namespace relayd::backend {

// One datagram of the sd_notify(3) protocol, as far as relayd understands it; the rest (MAINPID=, WATCHDOG=,
// …) is passed over.
struct NotifyMessage {
  bool ready = false;
  bool stopping = false;
  std::optional<std::string> status;  // at most 256 bytes, without control characters
  bool operator==(const NotifyMessage&) const = default;
};
NotifyMessage parse_notify(std::string_view datagram);

// The NOTIFY_SOCKET of one instance: an abstract Unix datagram socket. Everybody on the machine can send to
// it, so only messages of the instance's process group are taken, by the credentials that the kernel
// attaches.
class NotifySocket {
 public:
  // `received` runs on the loop; the socket may be destroyed inside it.
  static Result<std::unique_ptr<NotifySocket>> create(Loop& loop,
                                                      std::function<void(const NotifyMessage&)> received);
  // A socket of this class's making, in another image of relayd.
  static Result<std::unique_ptr<NotifySocket>> adopt(Loop& loop, Descriptor socket, std::string address,
                                                     std::function<void(const NotifyMessage&)> received);
  // From now on messages of this process and its group are taken; before, none are.
  void accept_from(pid_t leader) { leader_ = leader; }
  // The value of NOTIFY_SOCKET: "@00042".
  const std::string& address() const { return address_; }
  int fd() const { return socket_.get(); }

 private:
  NotifySocket(Descriptor socket, std::string address, std::function<void(const NotifyMessage&)> received)
      : socket_(std::move(socket)), address_(std::move(address)), received_(std::move(received)) {}
  void receive();
  bool is_ours(pid_t sender) const;

  Descriptor socket_;
  std::string address_;
  std::function<void(const NotifyMessage&)> received_;
  pid_t leader_ = -1;
  std::unique_ptr<Poll> watch_;
};

}  // namespace relayd::backend
