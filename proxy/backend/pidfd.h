#pragma once

#include <sys/syscall.h>
#include <unistd.h>

#include "proxy/base/descriptor.h"

// pidfd_open(2) and pidfd_send_signal(2): Debian 12's <sys/pidfd.h> (glibc 2.36) does not declare them extern
// "C".
namespace relayd::backend {

// Invalid with errno on failure. Close-on-exec by itself.
inline Descriptor open_pidfd(pid_t pid) {
  return Descriptor(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
}

inline bool signal_pidfd(int pidfd, int number) {
  return ::syscall(SYS_pidfd_send_signal, pidfd, number, nullptr, 0) == 0;
}

}  // namespace relayd::backend
