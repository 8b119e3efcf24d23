#pragma once

#include <sys/types.h>

#include <string_view>

namespace relayd {

// Writes what a descriptor takes at once, and never waits, also where the descriptor itself is blocking:
// O_NONBLOCK would belong to everybody who shares it, and standard error is shared. Returns the bytes
// written: what fits into PIPE_BUF goes into a pipe whole or not at all; anywhere else it may be a part.
// -1 with errno: EAGAIN where nothing can be taken now, EPIPE where nobody reads it any more.
ssize_t write_now(int fd, std::string_view data);

}  // namespace relayd
