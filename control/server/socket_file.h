#pragma once

#include <sys/stat.h>

#include <string>

#include "control/server/server.h"
#include "proxy/base/descriptor.h"

namespace relayd::control {

// The listening Unix socket together with its file, which is removed at the end if it is still the one made
// here.
class SocketFile {
 public:
  static Result<SocketFile> create(const ServerOptions& options, std::optional<gid_t> group);
  SocketFile(SocketFile&&) = default;
  SocketFile& operator=(SocketFile&&) = delete;
  ~SocketFile();

  int fd() const { return socket_.get(); }
  const std::string& path() const { return path_; }

 private:
  SocketFile(Descriptor socket, std::string path) : socket_(std::move(socket)), path_(std::move(path)) {}

  Descriptor socket_;
  std::string path_;
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

}  // namespace relayd::control
