#include "proxy/backend/identity.h"

#include <grp.h>
#include <pwd.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>

namespace relayd::backend {
namespace {

constexpr std::size_t kMaxRecord = 1U << 20;  // bytes; a group with tens of thousands of members stays below

std::optional<unsigned> as_number(const std::string& text) {
  unsigned value = 0;
  const auto [end, failure] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (failure != std::errc{} || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// Runs one of the get..._r(3) functions with a buffer that grows as it asks. Returns 0 or an errno.
template <typename Record, typename Look>
int look_up(Record& record, std::vector<char>& buffer, bool& found, Look look) {
  buffer.resize(4096);
  for (;;) {
    Record* result = nullptr;
    const int code = look(&record, buffer.data(), buffer.size(), &result);
    found = result != nullptr;
    if (code != ERANGE || buffer.size() >= kMaxRecord) return code;
    buffer.resize(buffer.size() * 2);
  }
}

Result<void> find_user(const std::string& user, Identity& identity) {
  const std::optional<unsigned> number =
      user.empty() ? std::optional<unsigned>(::geteuid()) : as_number(user);
  passwd record{};
  std::vector<char> buffer;
  bool found = false;
  const int code =
      look_up(record, buffer, found, [&](passwd* to, char* bytes, std::size_t size, passwd** result) {
        return number ? ::getpwuid_r(*number, to, bytes, size, result)
                      : ::getpwnam_r(user.c_str(), to, bytes, size, result);
      });
  if (found) {
    identity.uid = record.pw_uid;
    identity.gid = record.pw_gid;
    identity.name = record.pw_name;
    identity.home = record.pw_dir;
    return {};
  }
  if (number) {  // a container may know no names
    identity.uid = *number;
    identity.gid = user.empty() ? ::getegid() : *number;
    return {};
  }
  if (code != 0) return std::unexpected(errno_error("cannot look up backend.user '" + user + "'", code));
  return fail("there is no user '" + user + "' on this system: make it, or change backend.user");
}

Result<void> find_group(const std::string& group, Identity& identity) {
  const std::optional<unsigned> number = as_number(group);
  if (number) {
    identity.gid = *number;
    return {};
  }
  struct group record {};
  std::vector<char> buffer;
  bool found = false;
  const int code = look_up(record, buffer, found,
                           [&](struct group* to, char* bytes, std::size_t size, struct group** result) {
                             return ::getgrnam_r(group.c_str(), to, bytes, size, result);
                           });
  if (found) {
    identity.gid = record.gr_gid;
    return {};
  }
  if (code != 0) return std::unexpected(errno_error("cannot look up backend.group '" + group + "'", code));
  return fail("there is no group '" + group + "' on this system: make it, or change backend.group");
}

}  // namespace

Result<std::optional<Identity>> find_identity(const std::string& user, const std::string& group) {
  if (user.empty() && group.empty()) return std::nullopt;
  Identity identity;
  if (auto found = find_user(user, identity); !found) return std::unexpected(found.error());
  if (!group.empty()) {
    if (auto found = find_group(group, identity); !found) return std::unexpected(found.error());
  }
  identity.groups = {identity.gid};
  if (!identity.name.empty()) {
    int count = 64;
    for (;;) {
      identity.groups.resize(static_cast<std::size_t>(count));
      const int before = count;
      const int got = ::getgrouplist(identity.name.c_str(), identity.gid, identity.groups.data(), &count);
      if (got >= 0 || count <= before) break;
    }
    identity.groups.resize(static_cast<std::size_t>(count));
  }
  return identity;
}

}  // namespace relayd::backend
