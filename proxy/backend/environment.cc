#include "proxy/backend/environment.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "proxy/backend/template.h"
#include "proxy/base/descriptor.h"

namespace relayd::backend {
namespace {

constexpr std::size_t kMaxFileSize =
    1U << 20;  // bytes; an environment beyond it could not be passed to exec anyway

bool is_blank(char c) { return c == ' ' || c == '\t'; }
bool is_line_end(char c) { return c == '\n' || c == '\r'; }
bool is_key_char(char c) {
  return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '.' ||
         c == '-';
}

bool is_name(std::string_view key) {
  return !key.empty() && std::all_of(key.begin(), key.end(), is_key_char) && (key[0] < '0' || key[0] > '9');
}

// What program_frame() (launch.h) puts over anything else, or an app would take for a sign of its supervisor.
bool is_set_by_relayd(std::string_view key, config::AddressKind address) {
  if (key == "HOST" || key == "PORT") return address == config::AddressKind::kPort;
  return key.starts_with("RELAY_") || key.starts_with("LISTEN_") || key == "NOTIFY_SOCKET";
}

Result<void> check_override(const std::string& key, const std::string& value, config::AddressKind address) {
  const std::string what = "--env " + key.substr(0, 80) + ": ";
  if (!is_name(key)) {
    return fail(
        what +
            "not a name for an environment variable: use letters, digits and '_', not beginning with a "
            "digit",
        EINVAL);
  }
  if (is_set_by_relayd(key, address)) {
    return fail(
        what + "relayd sets this variable itself for every instance; leave it out, or take another name",
        EINVAL);
  }
  if (value.find('\0') != std::string::npos)
    return fail(what + "a zero byte cannot be part of a value", EINVAL);
  return {};
}

class EnvFileParser {
 public:
  EnvFileParser(std::string_view text, const std::string& name) : text_(text), name_(name) {}

  Result<Environment> parse() {
    Environment result;
    if (text_.starts_with("\xEF\xBB\xBF")) at_ = 3;  // a byte order mark
    while (skip_to_key()) {
      auto key = parse_key();
      if (!key) return std::unexpected(key.error());
      auto value = parse_value();
      if (!value) return std::unexpected(value.error());
      result[*key] = std::move(*value);
    }
    return result;
  }

 private:
  bool ended() const { return at_ >= text_.size(); }
  char peek() const { return text_[at_]; }
  char take() {
    if (text_[at_] == '\n') ++line_;
    return text_[at_++];
  }
  std::unexpected<Error> fault(int line, const std::string& message) const {
    return fail(name_ + ":" + std::to_string(line) + ": " + message);
  }

  // Skips blanks, empty lines and comments; false at the end of the file.
  bool skip_to_key() {
    while (!ended()) {
      if (is_blank(peek()) || is_line_end(peek())) {
        take();
      } else if (peek() == '#' || peek() == ';') {
        while (!ended() && !is_line_end(peek())) take();
      } else {
        return true;
      }
    }
    return false;
  }

  Result<std::string> parse_key() {
    const std::size_t start = at_;
    while (!ended() && peek() != '=' && !is_line_end(peek())) take();
    std::string_view key = text_.substr(start, at_ - start);
    while (!key.empty() && is_blank(key.back())) key.remove_suffix(1);
    if (ended() || peek() != '=') {
      return fault(line_,
                   "'" + std::string(key.substr(0, 80)) +
                       "' has no value: write KEY=VALUE (relayd's own environment is passed on anyway)");
    }
    if (key.starts_with("export ")) return fault(line_, "leave out 'export': this is not a shell script");
    if (!is_name(key)) {
      return fault(line_, "'" + std::string(key.substr(0, 80)) +
                              "' is not a name: use letters, digits and '_', not beginning with a digit");
    }
    take();  // the '='
    return std::string(key);
  }

  Result<std::string> parse_value() {
    std::string value;
    std::size_t keep = 0;  // trailing blanks are cut down to here: quoted and escaped ones stay
    while (!ended() && is_blank(peek())) take();
    while (!ended() && !is_line_end(peek())) {
      const char c = take();
      if (c == '\'' || c == '"') {
        if (auto done = parse_quoted(c, value); !done) return std::unexpected(done.error());
        keep = value.size();
      } else if (c == '\\' && !ended()) {
        if (!skip_line_end()) value += take();
        keep = value.size();
      } else if (c == '\0') {
        return fault(line_, "a zero byte cannot be part of a value");
      } else {
        value += c;
        if (!is_blank(c)) keep = value.size();
      }
    }
    value.resize(keep);
    return value;
  }

  Result<void> parse_quoted(char quote, std::string& value) {
    const int opened = line_;
    while (!ended()) {
      const char c = take();
      if (c == quote) return {};
      if (c == '\0') return fault(line_, "a zero byte cannot be part of a value");
      if (c == '\\' && quote == '"' && !ended()) {
        if (skip_line_end()) continue;
        if (std::string_view("\"\\`$").find(peek()) == std::string_view::npos) value += c;
        value += take();
      } else {
        value += c;
      }
    }
    return fault(opened, std::string("the quote ") + quote + " opened here is never closed");
  }

  bool skip_line_end() {
    if (ended() || !is_line_end(peek())) return false;
    if (take() == '\r' && !ended() && peek() == '\n') take();
    return true;
  }

  std::string_view text_;
  const std::string& name_;
  std::size_t at_ = 0;
  int line_ = 1;
};

}  // namespace

Result<Environment> parse_env_file(std::string_view text, const std::string& name) {
  return EnvFileParser(text, name).parse();
}

Result<Environment> read_env_file(const std::string& path) {
  const std::string what = "cannot read the env_file " + path;
  const Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK));
  if (!file) return fail_errno(what);
  std::string text;
  char buffer[16384];
  for (;;) {
    const ssize_t got = ::read(file.get(), buffer, sizeof buffer);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_errno(what);
    if (got == 0) break;
    text.append(buffer, static_cast<std::size_t>(got));
    if (text.size() > kMaxFileSize) return fail(what + ": it is larger than 1 MiB");
  }
  return parse_env_file(text, path);
}

Result<Environment> definition_environment(const config::Backend& backend, const Environment& overrides) {
  Environment merged = backend.env;
  if (!backend.env_file.empty()) {
    auto read = read_env_file(backend.env_file);
    if (!read) return std::unexpected(read.error());
    for (const auto& [key, value] : *read) merged[key] = escape_template(value);
  }
  for (const auto& [key, value] : overrides) {
    if (auto fine = check_override(key, value, backend.address); !fine) return std::unexpected(fine.error());
    merged[key] = escape_template(value);
  }
  return merged;
}

Environment inherited_environment(const char* const* environ_block) {
  Environment result;
  for (const char* const* entry = environ_block; entry != nullptr && *entry != nullptr; ++entry) {
    const std::string_view text(*entry);
    const std::size_t equals = text.find('=', 1);
    if (equals == std::string_view::npos) continue;
    const std::string_view key = text.substr(0, equals);
    if (key.starts_with("LISTEN_") || key.starts_with("WATCHDOG_") || key.starts_with("RELAY_") ||
        key == "NOTIFY_SOCKET") {
      continue;
    }
    result.emplace(key, text.substr(equals + 1));
  }
  return result;
}

}  // namespace relayd::backend
