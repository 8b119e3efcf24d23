#include "proxy/steering/diagnosis.h"

#include <linux/capability.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <cstdio>
#include <fstream>

namespace relayd::steering {
namespace {

struct Version {
  int major = 0, minor = 0;
  auto operator<=>(const Version&) const = default;
};
constexpr Version kSkLookup{5, 9};
constexpr Version kBpfMemoryByCgroup{5, 11};  // before that, RLIMIT_MEMLOCK bounds it

Version kernel(std::string& release) {
  utsname names{};
  Version version;
  if (::uname(&names) == 0) {
    release = names.release;
    std::sscanf(names.release, "%d.%d", &version.major, &version.minor);
  }
  return version;
}

bool effective(unsigned capability) {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {};
  if (::syscall(SYS_capget, &header, data) != 0) return false;
  return (data[capability / 32].effective >> (capability % 32) & 1U) != 0;
}

// In another user namespace than the first, capabilities are good for nothing that BPF asks for.
bool in_user_namespace() {
  std::ifstream map("/proc/self/uid_map");
  std::uint64_t inside = 0, outside = 0, count = 0;
  if (!map.is_open()) return false;
  map >> inside >> outside >> count;  // nothing there: no user is mapped
  return !map || (inside != 0 || outside != 0 || count != UINT32_MAX);
}

std::string forbidden(Version version, const std::string& release) {
  const std::string missing = missing_capabilities();
  if (!missing.empty())
    return "relayd lacks " + missing +
           " (in a unit: AmbientCapabilities=CAP_BPF CAP_NET_ADMIN; docker run --cap-add BPF --cap-add "
           "NET_ADMIN, and SYS_PTRACE where the app changes its user)";
  if (in_user_namespace())
    return "relayd runs in a user namespace, whose capabilities do not count for BPF; run it in the first "
           "one";
  if (version < kBpfMemoryByCgroup)
    return "kernel " + release +
           " counts BPF's memory against RLIMIT_MEMLOCK (ulimit -l; in a unit: "
           "LimitMEMLOCK=infinity), or a filter of system calls forbids bpf(2)";
  return "a filter of system calls (seccomp), a security module or lockdown forbids bpf(2)";
}

std::string last_line(std::string_view log) {
  while (!log.empty() && log.back() == '\n') log.remove_suffix(1);
  return std::string(log.substr(log.rfind('\n') + 1));
}

std::string cause(Step step, int code, std::string_view log) {
  std::string release;
  const Version version = kernel(release);
  if (code == ENOSYS)
    return "kernel " + release + " has no bpf(2) (CONFIG_BPF_SYSCALL), or a filter of system calls hides it";
  if (version < kSkLookup) return "kernel " + release + " is too old: sk_lookup came with Linux 5.9";
  if (code == EPERM || code == EACCES) {
    const std::string words = last_line(log);
    if (code == EACCES && !words.empty()) return "the kernel's verifier rejects the program: " + words;
    return forbidden(version, release);
  }
  if (code == EINVAL && step == Step::kSocketMap)
    return "kernel " + release + " has no sockmap (CONFIG_BPF_STREAM_PARSER, CONFIG_NET)";
  if (code == EINVAL && step == Step::kProgram)
    return "kernel " + release + " does not take an sk_lookup program (CONFIG_INET, CONFIG_BPF_SYSCALL) " +
           last_line(log);
  if (code == E2BIG && step == Step::kLink)
    return "as many sk_lookup programs as can be are attached to this network namespace already (bpftool "
           "net)";
  return step == Step::kLink ? "the program cannot be attached to this network namespace" : "bpf(2) failed";
}

}  // namespace

std::string missing_capabilities() {
  const bool admin = effective(CAP_SYS_ADMIN);
  std::string missing;
  if (!admin && !effective(CAP_BPF)) missing = "CAP_BPF (or CAP_SYS_ADMIN)";
  if (!effective(CAP_NET_ADMIN)) missing += missing.empty() ? "CAP_NET_ADMIN" : " and CAP_NET_ADMIN";
  return missing;
}

Error diagnose(Step step, int code, std::string_view log) {
  return errno_error("steering is not possible here: " + cause(step, code, log), code);
}

}  // namespace relayd::steering
