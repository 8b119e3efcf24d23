#include "proxy/steering/process_group.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <fstream>
#include <memory>
#include <string>
#include <string_view>

namespace relayd::steering {
namespace {

struct CloseFolder {
  void operator()(DIR* folder) const { ::closedir(folder); }
};
using Folder = std::unique_ptr<DIR, CloseFolder>;

// False where the name is no number.
bool read_number(std::string_view text, auto& number) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc() && end == text.data() + text.size();
}

// "socket:[12345]"
bool read_inode(std::string_view link, std::uint32_t& inode) {
  constexpr std::string_view kBefore = "socket:[";
  if (!link.starts_with(kBefore) || !link.ends_with(']')) return false;
  link.remove_prefix(kBefore.size());
  link.remove_suffix(1);
  return read_number(link, inode);
}

bool has_ended(int code) { return code == ENOENT || code == ESRCH; }

}  // namespace

std::string ptrace_right(pid_t pid) {
  std::string cure = "it must run as relayd's user with no more capabilities, or relayd needs CAP_SYS_PTRACE";
  std::ifstream file("/proc/sys/kernel/yama/ptrace_scope");
  int scope = 0;
  if (file >> scope && scope >= 2) cure += "; kernel.yama.ptrace_scope is " + std::to_string(scope);
  return "process " + std::to_string(pid) + " (" + cure + ")";
}

Result<std::vector<Process>> processes_of(std::span<const pid_t> groups) {
  std::vector<Process> found;
  const Folder proc(::opendir("/proc"));
  if (!proc) return fail_errno("cannot read /proc");
  while (const dirent* entry = ::readdir(proc.get())) {
    pid_t pid = 0;
    if (!read_number(entry->d_name, pid)) continue;
    const pid_t group = ::getpgid(pid);
    if (std::ranges::find(groups, group) != groups.end()) found.push_back({pid, group});
  }
  return found;
}

Result<void> each_socket(const Process& process, const std::function<void(int, std::uint32_t)>& found) {
  const std::string path = "/proc/" + std::to_string(process.pid) + "/fd";
  const Folder folder(::opendir(path.c_str()));
  if (!folder) {
    if (has_ended(errno)) return {};
    return fail_errno("cannot read the sockets of " + ptrace_right(process.pid));
  }
  while (const dirent* entry = ::readdir(folder.get())) {
    int fd = 0;
    if (!read_number(entry->d_name, fd)) continue;
    char link[64];
    const ssize_t length = ::readlinkat(::dirfd(folder.get()), entry->d_name, link, sizeof link);
    if (length < 0) {
      if (has_ended(errno)) continue;
      return fail_errno("cannot read the sockets of " + ptrace_right(process.pid));
    }
    std::uint32_t inode = 0;
    if (read_inode({link, static_cast<std::size_t>(length)}, inode)) found(fd, inode);
  }
  return {};
}

std::uint32_t socket_of(pid_t pid, int fd) {
  const std::string path = "/proc/" + std::to_string(pid) + "/fd/" + std::to_string(fd);
  char link[64];
  const ssize_t length = ::readlink(path.c_str(), link, sizeof link);
  std::uint32_t inode = 0;
  if (length < 0 || !read_inode({link, static_cast<std::size_t>(length)}, inode)) return 0;
  return inode;
}

}  // namespace relayd::steering
