#pragma once

#include <compare>
#include <cstdint>
#include <string>
#include <utility>

namespace relayd {

// Which file it is: its path may be another one's by now.
struct FileIdentity {
  std::string path;
  std::uint64_t device = 0;
  std::uint64_t inode = 0;
  auto operator<=>(const FileIdentity&) const = default;
};

// The file of a Unix socket, which is removed with its owner, if it is still the same file.
class SocketFile {
 public:
  // Of a socket just bound to `path`.
  explicit SocketFile(std::string path);
  // Of one that another image of relayd had.
  explicit SocketFile(FileIdentity known) : identity_(std::move(known)) {}
  SocketFile(SocketFile&& other) noexcept;
  SocketFile& operator=(SocketFile&& other) noexcept;
  ~SocketFile() { remove(); }

  const FileIdentity& identity() const { return identity_; }
  bool is_there() const;
  // Leaves it where it is, for whoever owned it before.
  void disown() { identity_ = {}; }

 private:
  void remove();

  FileIdentity identity_;  // without a path: none
};

}  // namespace relayd
