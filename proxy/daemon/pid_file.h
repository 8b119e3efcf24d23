#pragma once

#include <string>
#include <utility>

#include "proxy/base/error.h"

namespace relayd {

// Holds relayd's PID for as long as it runs; the file is removed at the end if it still names this process.
class PidFile {
 public:
  static Result<PidFile> write(const std::string& path);
  // One that another image of relayd has written, in this process.
  static PidFile adopt(std::string path);
  const std::string& path() const { return path_; }  // empty: none
  PidFile() = default;
  PidFile(PidFile&& other) noexcept : path_(std::exchange(other.path_, {})) {}
  PidFile& operator=(PidFile&& other) noexcept {
    std::swap(path_, other.path_);
    return *this;
  }
  ~PidFile();

 private:
  std::string path_;
};

}  // namespace relayd
