#pragma once

#include <expected>
#include <string>

namespace relayd {

// A failure as a value: what was tried, on what, and why it failed. `code` is the errno, or 0 where none
// applies.
struct Error {
  std::string message;
  int code = 0;
};

template <typename T>
using Result = std::expected<T, Error>;

// "what: No such file or directory (ENOENT)"; code is kept.
Error errno_error(std::string what, int code);

inline std::unexpected<Error> fail(std::string message, int code = 0) {
  return std::unexpected(Error{std::move(message), code});
}
// Uses the calling thread's errno.
std::unexpected<Error> fail_errno(std::string what);

// "No such file or directory (ENOENT)"
std::string errno_text(int code);

}  // namespace relayd
