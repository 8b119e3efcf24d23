#include "proxy/daemon/service_manager.h"

#include <sys/socket.h>

#include <cstdlib>
#include <ctime>

#include "proxy/base/address.h"
#include "proxy/base/log.h"

namespace relayd {

ServiceManager::ServiceManager() {
  if (const char* socket = std::getenv("NOTIFY_SOCKET")) socket_ = socket;
}

void ServiceManager::ready() {
  if (told_ready_) return;
  told_ready_ = true;
  tell("READY=1");
}

// systemd wants to know which READY=1 comes after which RELOADING=1 (systemd.service(5), notify-reload).
void ServiceManager::reloading() {
  if (!told_ready_) return;
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  const long long usec = static_cast<long long>(now.tv_sec) * 1'000'000 + now.tv_nsec / 1000;
  tell("RELOADING=1\nMONOTONIC_USEC=" + std::to_string(usec));
}

void ServiceManager::ready_again() {
  if (told_ready_) tell("READY=1");
}

void ServiceManager::stopping() const { tell("STOPPING=1"); }

void ServiceManager::tell(const std::string& message) const {
  if (socket_.empty()) return;
  const Descriptor socket(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  const auto address = SocketAddress::unix_path(socket_);
  const bool told = socket && address &&
                    ::sendto(socket.get(), message.data(), message.size(), MSG_NOSIGNAL | MSG_DONTWAIT,
                             address->get(), address->length()) >= 0;
  if (!told) log::warn("the service manager cannot be told", {{"message", message}, {"socket", socket_}});
}

}  // namespace relayd
