#include "proxy/daemon/inherited_sockets.h"

#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdlib>
#include <string_view>

namespace relayd {
namespace {

constexpr int kFirst = 3;      // SD_LISTEN_FDS_START
constexpr int kMost = 10'000;  // far above what a .socket unit has

// A number and nothing else; -1: not one.
long number(std::string_view text) {
  long value = -1;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  return failure == std::errc{} && end == text.data() + text.size() ? value : -1;
}

int option(int fd, int name) {
  int value = -1;
  socklen_t size = sizeof value;
  return ::getsockopt(fd, SOL_SOCKET, name, &value, &size) == 0 ? value : -1;
}

}  // namespace

Result<std::vector<std::string>> passed_names(const char* listen_pid, const char* listen_fds,
                                              const char* listen_fdnames, pid_t self) {
  if (listen_fds == nullptr) return std::vector<std::string>{};
  const long count = number(listen_fds);
  if (count < 0 || count > kMost)
    return fail("LISTEN_FDS is '" + std::string(listen_fds) + "', which is no number of descriptors");
  if (listen_pid == nullptr || number(listen_pid) != self) {
    return fail("LISTEN_PID is '" + std::string(listen_pid != nullptr ? listen_pid : "") +
                "', and relayd is process " + std::to_string(self) +
                ": a shell or wrapper that starts relayd has to exec it");
  }
  std::vector<std::string> names;
  std::string_view left = listen_fdnames != nullptr ? listen_fdnames : "";
  for (long i = 0; i < count; ++i) {
    const std::size_t colon = left.find(':');
    const std::string_view name = left.substr(0, colon);
    names.emplace_back(name.empty() ? "unknown" : name);
    left = colon == std::string_view::npos ? "" : left.substr(colon + 1);
  }
  return names;
}

void InheritedSockets::save(upgrade::Record& record) const {
  for (const Passed& passed : passed_) record.passed.push_back({passed.name, passed.socket.get()});
  record.why_none_passed = why_none_;
}

InheritedSockets InheritedSockets::adopt(const upgrade::Record& record) {
  InheritedSockets adopted;
  for (const upgrade::PassedSocketRecord& passed : record.passed)
    adopted.passed_.push_back({passed.name, Descriptor(passed.socket)});
  adopted.why_none_ = record.why_none_passed;
  return adopted;
}

InheritedSockets InheritedSockets::take() {
  InheritedSockets taken;
  const auto names = passed_names(std::getenv("LISTEN_PID"), std::getenv("LISTEN_FDS"),
                                  std::getenv("LISTEN_FDNAMES"), ::getpid());
  for (const char* variable : {"LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID"})
    ::unsetenv(variable);
  if (!names) {
    taken.why_none_ = names.error().message;
    return taken;
  }
  for (std::size_t i = 0; i < names->size(); ++i) {
    const int fd = kFirst + static_cast<int>(i);
    if (::fcntl(fd, F_SETFD, FD_CLOEXEC) != 0) {
      taken.why_none_ = "LISTEN_FDS promises descriptor " + std::to_string(fd) + ", which is not open";
      break;
    }
    taken.passed_.push_back({(*names)[i], Descriptor(fd)});
  }
  return taken;
}

Result<std::vector<InheritedSockets::Found>> InheritedSockets::named(const std::string& name) const {
  std::vector<Found> found;
  for (const Passed& passed : passed_) {
    if (passed.name != name) continue;
    const int fd = passed.socket.get();
    if (option(fd, SO_TYPE) != SOCK_STREAM || option(fd, SO_ACCEPTCONN) != 1) {
      return fail("what was passed under the name '" + name +
                  "' is not a listening stream socket: in the .socket unit, use ListenStream= and Accept=no");
    }
    auto address = local_address(fd);
    if (!address) return std::unexpected(address.error());
    Descriptor copy(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
    if (!copy) return fail_errno("cannot take the socket passed under the name '" + name + "'");
    found.push_back({*address, std::move(copy)});
  }
  if (!found.empty()) return found;
  std::string known;
  for (const std::string& other : names()) known += (known.empty() ? "" : ", ") + other;
  return fail("no socket was passed to relayd under the name '" + name + "' (" +
                  (known.empty() ? why_none_ : "these were: " + known) +
                  "); a .socket unit names its sockets by FileDescriptorName=",
              ENOENT);
}

std::vector<std::string> InheritedSockets::names() const {
  std::vector<std::string> all;
  for (const Passed& passed : passed_) {
    if (std::ranges::find(all, passed.name) == all.end()) all.push_back(passed.name);
  }
  return all;
}

}  // namespace relayd
