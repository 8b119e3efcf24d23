#include "proxy/base/error.h"

#include <cerrno>
#include <cstring>

namespace relayd {

std::string errno_text(int code) {
  const char* name = ::strerrorname_np(code);
  const char* text = ::strerrordesc_np(code);
  std::string out = text != nullptr ? text : "error " + std::to_string(code);
  if (name != nullptr) out.append(" (").append(name).append(")");
  return out;
}

Error errno_error(std::string what, int code) {
  return Error{std::move(what) + ": " + errno_text(code), code};
}

std::unexpected<Error> fail_errno(std::string what) {
  return std::unexpected(errno_error(std::move(what), errno));
}

}  // namespace relayd
