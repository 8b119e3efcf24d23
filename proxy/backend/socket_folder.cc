#include "proxy/backend/socket_folder.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <string_view>
#include <vector>

#include "proxy/base/log.h"

namespace relayd::backend {
namespace {

constexpr std::size_t kMaxServicePart =
    24;  // characters of the service's name in the path: sun_path holds 107 in all

constexpr std::size_t kRandomDigits = 8;

std::string random_suffix() {
  std::uint32_t number = 0;
  if (::getrandom(&number, sizeof number, GRND_NONBLOCK) != sizeof number) {
    number = static_cast<std::uint32_t>(::getpid());
  }
  char text[kRandomDigits + 1];
  std::snprintf(text, sizeof text, "%08x", number);
  return text;
}

Descriptor open_folder(const std::string& path) {
  return Descriptor(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
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

// Cuts "-<one or more of `digits`>" off the end.
bool cut_number(std::string_view& name, std::string_view digits, std::size_t most) {
  const std::size_t dash = name.rfind('-');
  if (dash == std::string_view::npos) return false;
  const std::string_view number = name.substr(dash + 1);
  name.remove_suffix(name.size() - dash);
  return !number.empty() && number.size() <= most && number.find_first_not_of(digits) == number.npos;
}

// <service>-<generation>-<instance>-<random>
bool is_folder_name(std::string_view name) {
  const std::size_t dash = name.rfind('-');
  return dash != name.npos && name.size() - dash - 1 == kRandomDigits &&
         cut_number(name, "0123456789abcdef", kRandomDigits) && cut_number(name, "0123456789", 5) &&
         cut_number(name, "0123456789", 10) && !name.empty() && name.size() <= kMaxServicePart;
}

// False where it is known that nobody listens.
bool answers(const std::string& socket) {
  const auto address = SocketAddress::unix_path(socket);
  if (!address) return true;
  const Descriptor client(::socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
  if (!client || ::connect(client.get(), address->get(), address->length()) == 0) return true;
  return errno != ECONNREFUSED && errno != ENOENT;
}

bool is_stale(const std::string& path, bool only_ours_inside) {
  struct stat info {};
  if (::lstat(path.c_str(), &info) != 0 || !S_ISDIR(info.st_mode)) return false;
  if (info.st_uid != ::geteuid() && !only_ours_inside) return false;
  const Descriptor folder = open_folder(path);
  return folder && ::flock(folder.get(), LOCK_EX | LOCK_NB) == 0 && !answers(path + "/app.sock");
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
    folder.lock_ = open_folder(path);
    if (folder.lock_)
      ::flock(folder.lock_.get(), LOCK_EX | LOCK_NB);  // no lock there: the socket has to tell
    if (given_away && ::lchown(path.c_str(), identity->uid, identity->gid) != 0)
      return fail_errno("cannot give " + path + " to backend.user");
    return folder;
  }
}

SocketFolder SocketFolder::adopt(std::string path, Descriptor lock) {
  SocketFolder folder(std::move(path));
  folder.lock_ = std::move(lock);
  return folder;
}

void SocketFolder::reset() {
  if (path_.empty()) return;
  std::error_code ignored;  // nobody else can use what is left: its name is not used again
  std::filesystem::remove_all(std::exchange(path_, {}), ignored);
  lock_.reset();
}

void remove_stale_folders(const std::string& runtime_directory) {
  struct stat info {};
  if (::stat(runtime_directory.c_str(), &info) != 0) return;
  const bool only_ours_inside = info.st_uid == ::geteuid() && (info.st_mode & (S_IWGRP | S_IWOTH)) == 0;
  std::error_code error;
  std::vector<std::string> stale;
  for (std::filesystem::directory_iterator entry(runtime_directory, error), end; !error && entry != end;
       entry.increment(error)) {
    const std::string path = entry->path();
    if (is_folder_name(entry->path().filename().string()) && is_stale(path, only_ours_inside))
      stale.push_back(path);
  }
  for (const std::string& path : stale) {
    if (std::filesystem::remove_all(path, error) > 0 && !error) {
      log::info("removed the socket folder that a killed relayd had left", {{"folder", path}});
    } else {
      log::warn("cannot remove the socket folder that a killed relayd had left",
                {{"folder", path}, {"error", error.message()}});
    }
  }
}

}  // namespace relayd::backend
