#pragma once

#include <optional>
#include <string>

#include "control/server/record.h"
#include "control/server/server.h"
#include "proxy/base/descriptor.h"
#include "proxy/base/socket_file.h"

namespace relayd::control {

// The listening Unix socket together with its file.
class ControlSocket {
 public:
  static Result<ControlSocket> create(const ServerOptions& options, std::optional<gid_t> group);
  // Takes over one that was written down: the file is left as it is. Where the descriptor is not that socket,
  // nothing is taken.
  static Result<ControlSocket> adopt(const ServerRecord& record);

  int fd() const { return socket_.get(); }
  const SocketFile& file() const { return file_; }
  // Into its part of the record.
  void save(ServerRecord& record) const;
  // Leaves the socket open and the file where it is, for whoever owned them before.
  void disown();

 private:
  ControlSocket(Descriptor socket, SocketFile file) : socket_(std::move(socket)), file_(std::move(file)) {}

  Descriptor socket_;
  SocketFile file_;
};

}  // namespace relayd::control
