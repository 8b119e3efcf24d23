#include "proxy/upgrade/image.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <system_error>

namespace relayd::upgrade {
namespace {

char** the_arguments = nullptr;

constexpr const char* kSelf = "/proc/self/exe";
constexpr std::string_view kDeleted = " (deleted)";  // proc(5)
constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL;

std::string running_executable() {
  char path[PATH_MAX];
  const ssize_t size = ::readlink(kSelf, path, sizeof path);
  if (size <= 0) return "";
  std::string_view text(path, static_cast<std::size_t>(size));
  if (text.ends_with(kDeleted)) text.remove_suffix(kDeleted.size());
  return std::string(text);
}

}  // namespace

// argv[0] may be anything: it counts where it is the executable that runs.
std::string own_path() {
  std::error_code failed;
  const std::filesystem::path given = the_arguments[0];
  if (given.has_parent_path() && std::filesystem::equivalent(given, kSelf, failed)) {
    const auto path = std::filesystem::absolute(given, failed);
    if (!failed) return path.lexically_normal().string();
  }
  return running_executable();
}

Result<Descriptor> open_running_executable() {
  Descriptor file(::open(kSelf, O_RDONLY | O_CLOEXEC));
  if (!file) return fail_errno("cannot open the executable that runs");
  return file;
}

Result<Descriptor> open_executable(const std::string& path) {
  Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file) return fail_errno("cannot open " + path);
  struct stat status {};
  if (::fstat(file.get(), &status) != 0) return fail_errno("cannot look at " + path);
  if (!S_ISREG(status.st_mode)) return fail(path + " is not a file", ENOEXEC);
  if (::faccessat(AT_FDCWD, path.c_str(), X_OK, AT_EACCESS) != 0)
    return fail_errno(path + " may not be executed");
  return file;
}

void set_arguments(char** argv) { the_arguments = argv; }
char** arguments() { return the_arguments; }

Result<Descriptor> reserve_memory(std::size_t bytes) {
  // Where vm.memfd_noexec asks for it (Linux 6.3); older kernels do not know the flag.
  constexpr unsigned kNoExecSeal = 0x0008;
  Descriptor memory(::memfd_create("relayd-state", MFD_CLOEXEC | MFD_ALLOW_SEALING | kNoExecSeal));
  if (!memory && errno == EINVAL)
    memory.reset(::memfd_create("relayd-state", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!memory) return fail_errno("cannot make memory for the state (memfd)");
  if (const int code = ::posix_fallocate(memory.get(), 0, static_cast<off_t>(bytes)); code != 0) {
    return std::unexpected(
        errno_error("cannot get " + std::to_string(bytes) + " bytes of memory for the state (memfd)", code));
  }
  return memory;
}

Result<void> fill_and_seal(const Descriptor& memory, std::string_view bytes) {
  std::size_t written = 0;
  while (written < bytes.size()) {
    const ssize_t count =
        ::pwrite(memory.get(), bytes.data() + written, bytes.size() - written, static_cast<off_t>(written));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return fail_errno("cannot write the state (memfd)");
    written += static_cast<std::size_t>(count);
  }
  if (::ftruncate(memory.get(), static_cast<off_t>(bytes.size())) != 0)
    return fail_errno("cannot give the state its size (memfd)");
  if (::fcntl(memory.get(), F_ADD_SEALS, kSeals) != 0) return fail_errno("cannot seal the state (memfd)");
  return {};
}

bool is_sealed_memory(int fd) {
  const int seals = ::fcntl(fd, F_GET_SEALS);
  return seals >= 0 && (seals & F_SEAL_WRITE) != 0;
}

Result<std::string> read_memory(int memory) {
  struct stat status {};
  if (::fstat(memory, &status) != 0) return fail_errno("cannot look at the state");
  std::string bytes(static_cast<std::size_t>(status.st_size), '\0');
  std::size_t read = 0;
  while (read < bytes.size()) {
    const ssize_t count = ::pread(memory, bytes.data() + read, bytes.size() - read, static_cast<off_t>(read));
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) return fail_errno("cannot read the state");
    if (count == 0) return fail("the state is shorter than it was");
    read += static_cast<std::size_t>(count);
  }
  return bytes;
}

void execute(int image, char* const* environment) {
  ::syscall(SYS_execveat, image, "", arguments(), environment, AT_EMPTY_PATH);
}

std::uint64_t capabilities() {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with("CapEff:")) return std::strtoull(line.c_str() + 7, nullptr, 16);
  }
  return 0;
}

Result<void> make_inheritable(const std::vector<int>& descriptors) {
  for (const int fd : descriptors) {
    if (::fcntl(fd, F_SETFD, 0) != 0) return fail_errno("descriptor " + std::to_string(fd) + " of the state");
  }
  return {};
}

void make_close_on_exec(const std::vector<int>& descriptors) {
  for (const int fd : descriptors) ::fcntl(fd, F_SETFD, FD_CLOEXEC);
}

}  // namespace relayd::upgrade
