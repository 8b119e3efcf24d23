#include "proxy/steering/listeners.h"

#include <netinet/tcp.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <map>

#include "proxy/steering/process_group.h"

namespace relayd::steering {
namespace {

// Close-on-exec by the kernel's own doing. Linux 5.6.
Result<Descriptor> duplicate(pid_t pid, int fd) {
  const Descriptor process(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  if (!process) return fail_errno("cannot open process " + std::to_string(pid));
  Descriptor copy(static_cast<int>(::syscall(SYS_pidfd_getfd, process.get(), fd, 0)));
  if (!copy) return fail_errno("cannot duplicate the listening socket of " + ptrace_right(pid));
  return copy;
}

bool has_ended(const Error& error) { return error.code == ESRCH || error.code == EBADF; }

}  // namespace

ListenerRecord record_of(const FoundListener& listener) {
  return {listener.socket.get(), listener.address, listener.family,
          listener.inode,        listener.pid,     listener.fd};
}

FoundListener found_listener(const ListenerRecord& record) {
  return {Descriptor(record.socket), record.address, record.family, record.inode, record.pid, record.fd};
}

bool is_held(const FoundListener& listener) { return socket_of(listener.pid, listener.fd) == listener.inode; }

Result<std::vector<FoundListener>> find_listeners(SocketList& sockets, pid_t group, std::uint16_t port) {
  std::map<std::uint32_t, inet_diag_msg> wanted;  // by inode
  auto listed = sockets.each(port, 1U << TCP_LISTEN, [&](const inet_diag_msg& socket) {
    wanted.emplace(socket.idiag_inode, socket);
  });
  if (!listed) return std::unexpected(listed.error());
  auto processes = processes_of(std::array{group});
  if (!processes) return std::unexpected(processes.error());

  std::vector<FoundListener> found;
  for (const Process& process : *processes) {
    std::vector<std::pair<int, std::uint32_t>> here;
    auto looked = each_socket(process, [&](int fd, std::uint32_t inode) {
      if (wanted.contains(inode)) here.emplace_back(fd, inode);
    });
    if (!looked) return std::unexpected(looked.error());
    for (const auto& [fd, inode] : here) {
      const auto known = wanted.find(inode);
      if (known == wanted.end()) continue;  // this process has it twice
      auto copy = duplicate(process.pid, fd);
      if (!copy && has_ended(copy.error())) continue;
      if (!copy) return std::unexpected(copy.error());
      found.push_back({.socket = std::move(*copy),
                       .address = local_of(known->second),
                       .family = known->second.idiag_family,
                       .inode = inode,
                       .pid = process.pid,
                       .fd = fd});
      wanted.erase(known);
    }
  }
  if (found.empty())
    return fail("no process of group " + std::to_string(group) + " listens on TCP port " +
                    std::to_string(port) + " in relayd's network namespace",
                ENOENT);
  return found;
}

}  // namespace relayd::steering
