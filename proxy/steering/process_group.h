#pragma once

#include <sys/types.h>

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "proxy/base/error.h"

namespace relayd::steering {

struct Process {
  pid_t pid = 0;
  pid_t group = 0;
};

// Every process of these groups that has not ended; a group without one adds nothing. Errors: /proc.
Result<std::vector<Process>> processes_of(std::span<const pid_t> groups);

// Calls `found(fd, inode)` for every socket that the process has open. One that ends meanwhile has no more.
// EACCES where relayd may not look: the message names the cure (proc(5), ptrace(2)).
Result<void> each_socket(const Process& process, const std::function<void(int, std::uint32_t)>& found);

// The inode of the socket that is this descriptor of the process; 0: there is none, or it may not be looked
// at.
std::uint32_t socket_of(pid_t pid, int fd);

// The right that reading and duplicating another process's descriptors takes, in words.
std::string ptrace_right(pid_t pid);

}  // namespace relayd::steering
