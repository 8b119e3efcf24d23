#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>

#include "proxy/backend/identity.h"
#include "proxy/base/address.h"
#include "proxy/base/descriptor.h"
#include "proxy/base/error.h"

namespace relayd::backend {

// A fresh folder for one instance's Unix socket: never used before, entered by the instance's user and root
// alone, removed with all that is in it when this dies.
class SocketFolder {
 public:
  // <runtime_directory>/<service>-<generation>-<instance>-<random>, mode 0700, owned by `identity` (none:
  // relayd's own). Where that is another user, `runtime_directory` and what is above it must let him through;
  // a folder of relayd's own (its owner, and named relayd*) is made searchable (0711), any other is an error.
  static Result<SocketFolder> create(const std::string& runtime_directory, const std::string& service,
                                     std::uint32_t generation, std::uint16_t instance,
                                     const std::optional<Identity>& identity);
  // One of this class's making, in another image of relayd.
  static SocketFolder adopt(std::string path, Descriptor lock);
  const std::string& path() const { return path_; }
  int lock() const { return lock_.get(); }
  SocketFolder() = default;
  SocketFolder(SocketFolder&& other) noexcept
      : path_(std::exchange(other.path_, {})), lock_(std::move(other.lock_)) {}
  SocketFolder& operator=(SocketFolder&& other) noexcept {
    if (this != &other) {
      reset();
      path_ = std::exchange(other.path_, {});
      lock_ = std::move(other.lock_);
    }
    return *this;
  }
  ~SocketFolder() { reset(); }
  void reset();

  // "<folder>/app.sock"; nobody listens there yet.
  Result<SocketAddress> address() const { return SocketAddress::unix_path(path_ + "/app.sock"); }

 private:
  explicit SocketFolder(std::string path) : path_(std::move(path)) {}
  std::string path_;  // empty: none
  Descriptor lock_;   // flock(2) on the folder: says that whoever made it lives; it goes with the process
};

// Removes the folders that SocketFolder has made and a relayd that was killed has left behind: named as
// above, made by this user (or, where only this user can put anything into `runtime_directory`, given away by
// it), unlocked, and with a socket that nobody answers. What cannot be read or removed stays. Logs what it
// removed.
void remove_stale_folders(const std::string& runtime_directory);

}  // namespace relayd::backend
