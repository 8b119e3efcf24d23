#include "proxy/config/loader.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "proxy/base/descriptor.h"
#include "proxy/config/checks.h"
#include "proxy/config/document.h"
#include "proxy/config/sections.h"

namespace relayd::config {
namespace {

constexpr std::size_t kLargest = 1 << 20;  // bytes of a file; the reference file has a hundredth of it
constexpr std::size_t kMostFaults = 100;   // more help nobody
constexpr int kReadTimeoutMs = 5000;       // for pipes: a writer that never writes must not stop relayd

// The whole file, which may be a pipe (a shell's <(command)).
Result<std::string> read_all(const std::string& path) {
  const std::string what = "cannot read the configuration";
  // Non-blocking, so that opening a pipe nobody writes to does not wait for ever.
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file) return fail_errno(what);
  struct stat info {};
  if (::fstat(file.get(), &info) != 0) return fail_errno(what);
  if (S_ISDIR(info.st_mode)) return std::unexpected(errno_error(what, EISDIR));
  std::string text;
  char buffer[16384];
  for (;;) {
    pollfd readable{file.get(), POLLIN, 0};
    if (::poll(&readable, 1, kReadTimeoutMs) == 0)
      return fail(what + ": nothing came out of it within 5s", ETIMEDOUT);
    const ssize_t count = ::read(file.get(), buffer, sizeof buffer);
    if (count < 0 && (errno == EINTR || errno == EAGAIN)) continue;
    if (count < 0) return fail_errno(what);
    if (count == 0) return text;
    text.append(buffer, static_cast<std::size_t>(count));
    if (text.size() > kLargest) return text;  // load_text() refuses it
  }
}

void check_values(const Reader& reader, const Config& config, std::vector<PlacedFault>& faults) {
  for (const KeyFault& fault : check(config)) {
    if (reader.is_bad(fault.key)) continue;
    faults.push_back({reader.place_of(fault.key), fault.key + ": " + fault.message});
  }
}

std::vector<PlacedFault> read_text(std::string_view text, Config& config) {
  if (text.size() > kLargest) return {{{}, "the file is larger than 1 MiB: split it"}};
  const Document document = parse_document(text, Origin::kFile);
  if (!document.faults.empty()) {
    std::vector<PlacedFault> faults;
    for (const DocumentFault& fault : document.faults) faults.push_back({fault.mark, fault.message});
    return faults;
  }
  Reader reader(Origin::kFile);
  if (document.root == nullptr || document.root->kind == Node::Kind::kNull) {
    return {{{1, 1}, "the file is empty: it needs at least services, as in " + std::string(kExample)}};
  }
  read_config(reader, *document.root, config);
  std::vector<PlacedFault> faults = std::move(reader.faults);
  check_values(reader, config, faults);
  return faults;
}

}  // namespace

std::string Fault::to_string() const {
  std::string out = file;
  if (line > 0) out += ":" + std::to_string(line) + ":" + std::to_string(column);
  return (out.empty() ? "" : out + ": ") + message;
}

Loaded load_text(std::string_view text, const std::string& name) {
  Loaded loaded;
  std::vector<PlacedFault> faults = read_text(text, loaded.config);
  std::ranges::stable_sort(faults, {}, &PlacedFault::mark);
  if (faults.size() > kMostFaults) {
    const std::size_t more = faults.size() - kMostFaults;
    faults.resize(kMostFaults);
    faults.push_back({faults.back().mark, "and " + std::to_string(more) + " faults more; mend these first"});
  }
  for (PlacedFault& fault : faults) {
    loaded.faults.push_back({name, fault.mark.line, fault.mark.column, std::move(fault.message)});
  }
  return loaded;
}

Loaded load_file(const std::string& path) {
  const auto text = read_all(path);
  if (text) return load_text(*text, path);
  Loaded loaded;
  loaded.faults.push_back({path, 0, 0, text.error().message});
  return loaded;
}

}  // namespace relayd::config
