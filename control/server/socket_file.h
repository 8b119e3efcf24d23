#pragma once

#include <sys/stat.h>

#include <string>

#include "control/server/record.h"
#include "control/server/server.h"
#include "proxy/base/descriptor.h"

namespace relayd::control {

// The listening Unix socket together with its file, which is removed at the end if it is still the one made
// here.
class SocketFile {
 public:
  static Result<SocketFile> create(const ServerOptions& options, std::optional<gid_t> group);
  // Takes over one that was written down: the file is left as it is. Where the descriptor is not that socket,
  // nothing is taken.
  static Result<SocketFile> adopt(const ServerRecord& record);
  SocketFile(SocketFile&&) = default;
  SocketFile& operator=(SocketFile&&) = delete;
  ~SocketFile();

  int fd() const { return socket_.get(); }
  const std::string& path() const { return path_; }
  bool is_there() const;
  // In place of one that is not there any more; its socket is closed. Nobody may watch that one.
  void replace(SocketFile&& by);
  // Into its part of the record.
  void save(ServerRecord& record) const;
  // Leaves the socket open and the file where it is, for whoever owned them before.
  void disown() { static_cast<void>(socket_.release()); }

 private:
  SocketFile(Descriptor socket, std::string path) : socket_(std::move(socket)), path_(std::move(path)) {}

  Descriptor socket_;
  std::string path_;
  dev_t device_ = 0;
  ino_t inode_ = 0;
};

}  // namespace relayd::control
