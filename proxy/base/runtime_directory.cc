#include "proxy/base/runtime_directory.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <vector>

namespace relayd {
namespace {

constexpr char kSocketName[] = "/relayd.sock";

// Whom a folder must keep out.
enum class Trust {
  kParentIsGuarded,  // only root or this user can put anything there
  kNone,             // anybody can: it must be this user's own, and closed to others
};

struct Place {
  std::string path;
  mode_t mode;  // of a folder that is made
  Trust trust;
};

bool is_own_directory(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0 && S_ISDIR(info.st_mode) && info.st_uid == ::geteuid();
}

std::string environment(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

// In the order of preference; never empty.
std::vector<Place> places_in_order(const RuntimePlaces& places) {
  std::vector<Place> order;
  const std::string systemd = places.systemd.substr(0, places.systemd.find(':'));
  if (systemd.starts_with('/')) order.push_back({systemd, 0755, Trust::kParentIsGuarded});
  // Others may pass through: the socket's own mode, and relayd's check of the peer, say who is let in.
  if (places.root) order.push_back({places.system, 0755, Trust::kParentIsGuarded});
  if (places.xdg.starts_with('/') && is_own_directory(places.xdg)) {
    order.push_back({places.xdg + "/relayd", 0700, Trust::kParentIsGuarded});
  }
  order.push_back({places.shared + "/relayd-" + std::to_string(::geteuid()), 0700, Trust::kNone});
  return order;
}

// The folder as it stands, never through a symbolic link where others could have put one.
Result<void> verify(const Place& place) {
  const std::string what = "cannot use the runtime folder " + place.path;
  const std::string cure = "; remove it, or set control.socket (--control, --socket) to a path of your own";
  struct stat info {};
  const bool guarded = place.trust == Trust::kParentIsGuarded;
  if ((guarded ? ::stat(place.path.c_str(), &info) : ::lstat(place.path.c_str(), &info)) != 0) {
    Error error = errno_error(what, errno);
    if (error.code == ENOENT) error.message += "; is relayd running?";
    return std::unexpected(std::move(error));
  }
  if (S_ISLNK(info.st_mode)) return fail(what + ": it is a symbolic link" + cure, ELOOP);
  if (!S_ISDIR(info.st_mode)) return fail(what + ": it is not a directory" + cure, ENOTDIR);
  if (guarded) return {};
  if (info.st_uid != ::geteuid()) {
    return fail(what + ": it belongs to user " + std::to_string(info.st_uid) + cure, EPERM);
  }
  if ((info.st_mode & 077U) != 0)
    return fail(what + ": others can get into it (chmod 700 closes it)" + cure, EPERM);
  return {};
}

}  // namespace

Result<std::string> runtime_directory_in(const RuntimePlaces& places, bool create) {
  std::vector<Place> order = places_in_order(places);
  if (create) {
    const Place& chosen = order.front();
    if (::mkdir(chosen.path.c_str(), chosen.mode) != 0 && errno != EEXIST) {
      Error error = errno_error("cannot make the runtime folder " + chosen.path, errno);
      error.message += "; make it yourself, or set RUNTIME_DIRECTORY to a folder that relayd may write to";
      return std::unexpected(std::move(error));
    }
    if (auto verified = verify(chosen); !verified) return std::unexpected(verified.error());
    return chosen.path;
  }
  order.push_back({places.system, 0755, Trust::kParentIsGuarded});
  for (const Place& place : order) {
    if (::access((place.path + kSocketName).c_str(), F_OK) == 0 && verify(place)) return place.path;
  }
  // No relayd is there: the place where it would be, or why that cannot be used.
  if (auto verified = verify(order.front()); !verified) return std::unexpected(verified.error());
  return order.front().path;
}

Result<std::string> runtime_directory(bool create) {
  return runtime_directory_in({.systemd = environment("RUNTIME_DIRECTORY"),
                               .xdg = environment("XDG_RUNTIME_DIR"),
                               .system = "/run/relayd",
                               .shared = "/tmp",
                               .root = ::geteuid() == 0},
                              create);
}

Result<std::string> default_control_socket(bool for_client) {
  auto directory = runtime_directory(!for_client);
  if (directory) directory->append(kSocketName);
  return directory;
}

}  // namespace relayd
