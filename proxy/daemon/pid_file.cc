#include "proxy/daemon/pid_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "proxy/base/descriptor.h"

namespace relayd {

Result<PidFile> PidFile::write(const std::string& path) {
  const std::string what = "cannot write the pid file " + path;
  const std::string fresh = path + ".new";  // renamed into place, so that nobody reads half a number
  {
    const Descriptor file(::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    if (!file) return fail_errno(what);
    const std::string text = std::to_string(::getpid()) + "\n";
    if (::write(file.get(), text.data(), text.size()) != static_cast<ssize_t>(text.size())) {
      const auto failure = fail_errno(what);
      ::unlink(fresh.c_str());
      return failure;
    }
  }
  if (::rename(fresh.c_str(), path.c_str()) != 0) {
    const auto failure = fail_errno(what);
    ::unlink(fresh.c_str());
    return failure;
  }
  PidFile pid_file;
  pid_file.path_ = path;
  return pid_file;
}

PidFile PidFile::adopt(std::string path) {
  PidFile pid_file;
  pid_file.path_ = std::move(path);
  return pid_file;
}

PidFile::~PidFile() {
  if (path_.empty()) return;
  const Descriptor file(::open(path_.c_str(), O_RDONLY | O_CLOEXEC));
  char text[24] = "";
  if (file && ::read(file.get(), text, sizeof text - 1) > 0 && std::atol(text) == ::getpid())
    ::unlink(path_.c_str());
}

}  // namespace relayd
