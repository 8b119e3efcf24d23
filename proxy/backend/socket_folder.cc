#include "proxy/backend/socket_folder.h"

#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <filesystem>

namespace relayd::backend {
namespace {

constexpr std::size_t kMaxServicePart =
    24;  // characters of the service's name in the path: sun_path holds 107 in all

std::string random_suffix() {
  std::uint32_t number = 0;
  if (::getrandom(&number, sizeof number, GRND_NONBLOCK) != sizeof number) {
    number = static_cast<std::uint32_t>(::getpid());
  }
  char text[9];
  std::snprintf(text, sizeof text, "%08x", number);
  return text;
}

// Lets another user through to the folders inside, without letting him list them.
Result<void> make_searchable(const std::string& directory) {
  struct stat info {};
  if (::stat(directory.c_str(), &info) != 0)
    return fail_errno("cannot read the runtime directory " + directory);
  const mode_t mode = (info.st_mode & 07777U) | 0111U;
  if (mode != (info.st_mode & 07777U) && ::chmod(directory.c_str(), mode) != 0) {
    return fail_errno("cannot make the runtime directory " + directory + " searchable for backend.user");
  }
  return {};
}

}  // namespace

Result<SocketFolder> SocketFolder::create(const std::string& runtime_directory, const std::string& service,
                                          std::uint32_t generation, std::uint16_t instance, uid_t uid,
                                          gid_t gid) {
  std::string name = service.substr(0, kMaxServicePart);
  for (char& c : name) {
    if (c == '/') c = '_';
  }
  name += "-" + std::to_string(generation) + "-" + std::to_string(instance) + "-";
  for (int tries = 0;; ++tries) {
    const std::string path = runtime_directory + "/" + name + random_suffix();
    if (auto fits = SocketAddress::unix_path(path + "/app.sock"); !fits) {
      return fail(fits.error().message + "; set RUNTIME_DIRECTORY to a shorter folder");
    }
    if (::mkdir(path.c_str(), 0700) != 0) {
      if (errno == EEXIST && tries < 8) continue;
      return fail_errno("cannot make the folder " + path + " for the instance's socket");
    }
    SocketFolder folder(path);
    if (uid != static_cast<uid_t>(-1) && uid != ::geteuid()) {
      if (auto done = make_searchable(runtime_directory); !done) return std::unexpected(done.error());
      if (::lchown(path.c_str(), uid, gid) != 0)
        return fail_errno("cannot give " + path + " to backend.user");
    }
    return folder;
  }
}

void SocketFolder::reset() {
  if (path_.empty()) return;
  std::error_code ignored;  // nobody else can use what is left: its name is not used again
  std::filesystem::remove_all(std::exchange(path_, {}), ignored);
}

}  // namespace relayd::backend
