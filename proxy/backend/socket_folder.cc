#include "proxy/backend/socket_folder.h"

#include <fcntl.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <filesystem>

#include "proxy/base/descriptor.h"

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

bool may_pass(const std::string& directory, const struct stat& info, const Identity& who) {
  if (who.uid == 0 || (info.st_mode & S_IXOTH) != 0) return true;
  if (info.st_uid == who.uid) return (info.st_mode & S_IXUSR) != 0;
  const bool in_group =
      info.st_gid == who.gid || std::ranges::find(who.groups, info.st_gid) != who.groups.end();
  if (in_group && (info.st_mode & S_IXGRP) != 0) return true;
  // An access list may let him through; if it does not, the app's own bind(2) says so.
  return ::getxattr(directory.c_str(), "system.posix_acl_access", nullptr, 0) > 0;
}

std::unexpected<Error> not_searchable(const std::string& directory, const Identity& who) {
  const std::string user = who.name.empty() ? std::to_string(who.uid) : who.name;
  return fail("folder " + directory + " is not searchable for backend.user " + user +
                  ": put control.socket elsewhere, or chmod it (chmod o+x " + directory + ")",
              EACCES);
}

// Lets another user through to the folders inside, without letting him list them. Changes nothing but a
// folder of relayd's own: control.socket may be in somebody's home.
Result<void> make_searchable(const std::string& directory, const Identity& who) {
  const std::filesystem::path path(directory);
  const Descriptor folder(::open(directory.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  struct stat info {};
  if (!folder || ::fstat(folder.get(), &info) != 0)
    return fail_errno("cannot read the runtime directory " + directory);
  if (!may_pass(directory, info, who)) {
    const bool own = info.st_uid == ::geteuid() && path.filename().string().starts_with("relayd") &&
                     !std::filesystem::is_symlink(path);
    if (!own) return not_searchable(directory, who);
    if (::fchmod(folder.get(), (info.st_mode & 07777U) | 0111U) != 0)
      return fail_errno("cannot make the runtime directory " + directory + " searchable for backend.user");
  }
  for (auto above = path.parent_path(); !above.empty(); above = above.parent_path()) {
    if (::stat(above.c_str(), &info) == 0 && !may_pass(above, info, who)) return not_searchable(above, who);
    if (above == above.parent_path()) break;
  }
  return {};
}

}  // namespace

Result<SocketFolder> SocketFolder::create(const std::string& runtime_directory, const std::string& service,
                                          std::uint32_t generation, std::uint16_t instance,
                                          const std::optional<Identity>& identity) {
  const bool given_away = identity && identity->uid != ::geteuid();
  if (given_away) {
    if (auto done = make_searchable(runtime_directory, *identity); !done)
      return std::unexpected(done.error());
  }
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
    if (given_away && ::lchown(path.c_str(), identity->uid, identity->gid) != 0)
      return fail_errno("cannot give " + path + " to backend.user");
    return folder;
  }
}

void SocketFolder::reset() {
  if (path_.empty()) return;
  std::error_code ignored;  // nobody else can use what is left: its name is not used again
  std::filesystem::remove_all(std::exchange(path_, {}), ignored);
}

}  // namespace relayd::backend
