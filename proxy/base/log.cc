#include "proxy/base/log.h"

#include <fcntl.h>
#include <spdlog/common.h>
#include <spdlog/logger.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/base_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <ctime>
#include <memory>
#include <mutex>

#include "proxy/base/descriptor.h"
#include "proxy/base/utf8.h"

namespace relayd::log {
namespace {

struct State {
  std::mutex mutex;  // guards what follows; a line is formatted outside and written inside spdlog's own lock
  Options options;
  std::shared_ptr<spdlog::logger> logger;
};

// Appends to a descriptor, one write(2) a line. spdlog's own file sink opens files that every child inherits.
class FileSink : public spdlog::sinks::base_sink<std::mutex> {
 public:
  explicit FileSink(Descriptor file) : file_(std::move(file)) {}

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    const char* at = line.data();
    std::size_t left = line.size();
    while (left > 0) {
      const ssize_t count = ::write(file_.get(), at, left);
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) return;  // a log that cannot be written (a full disk) must never stop the proxy
      at += count;
      left -= static_cast<std::size_t>(count);
    }
  }
  void flush_() override {}

 private:
  Descriptor file_;
};

// Logs to `file`, or to standard error where it is empty.
std::shared_ptr<spdlog::logger> make_logger(const Options& options, Descriptor file) {
  spdlog::sink_ptr sink;
  if (file) {
    sink = std::make_shared<FileSink>(std::move(file));
  } else {
    sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
  }
  auto logger = std::make_shared<spdlog::logger>("relayd", sink);
  // Nor must it fill standard error with complaints.
  logger->set_error_handler([](const std::string&) {});
  logger->set_pattern(options.format == Format::kJson ? "%v" : "%Y-%m-%dT%H:%M:%S.%e%z %v",
                      spdlog::pattern_time_type::local);
  logger->set_level(spdlog::level::trace);
  logger->flush_on(spdlog::level::trace);
  return logger;
}

State& state() {
  static State* instance =
      new State{{}, {}, make_logger({}, {})};  // never destroyed: threads may log at exit
  return *instance;
}

spdlog::level::level_enum spdlog_level(Level level) {
  switch (level) {
    case Level::kDebug:
      return spdlog::level::debug;
    case Level::kInfo:
      return spdlog::level::info;
    case Level::kWarn:
      return spdlog::level::warn;
    case Level::kError:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

const char* level_name(Level level) {
  switch (level) {
    case Level::kDebug:
      return "debug";
    case Level::kInfo:
      return "info";
    case Level::kWarn:
      return "warn";
    case Level::kError:
      return "error";
  }
  return "info";
}

// The text with control characters as JSON escapes and bytes that are not UTF-8 as U+FFFD: what comes from a
// backend's standard error neither starts a line of its own nor speaks to a terminal.
void append_escaped(std::string& out, std::string_view text, std::string_view special) {
  for (std::size_t i = 0; i < text.size();) {
    const char c = text[i];
    const std::size_t length = utf8_length(text.substr(i));
    if (length == 0) {
      out.append("\xEF\xBF\xBD");
    } else if (special.find(c) != std::string_view::npos) {
      out.push_back('\\');
      out.push_back(c);
    } else if (c == '\n') {
      out.append("\\n");
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) {
      constexpr char kHex[] = "0123456789abcdef";
      out.append("\\u00").push_back(kHex[(c >> 4) & 15]);
      out.push_back(kHex[c & 15]);
    } else {
      out.append(text.substr(i, length));
    }
    i += std::max<std::size_t>(length, 1);
  }
}

void append_json_string(std::string& out, std::string_view text) {
  out.push_back('"');
  append_escaped(out, text, "\"\\");
  out.push_back('"');
}

// Text that needs quotes to be read back as one value.
bool needs_quotes(std::string_view text) {
  return text.empty() || std::ranges::any_of(text, [](unsigned char c) {
           return c <= 0x20 || c >= 0x7F || c == '"' || c == '=' || c == '\\';
         });
}

std::string json_line(Level level, std::string_view message, Fields fields) {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  tm parts{};
  ::gmtime_r(&now.tv_sec, &parts);
  char stamp[40];
  const std::size_t length = std::strftime(stamp, sizeof stamp, "%Y-%m-%dT%H:%M:%S", &parts);
  char millis[8];
  std::snprintf(millis, sizeof millis, ".%03ldZ", now.tv_nsec / 1'000'000 % 1000);
  std::string line = R"({"time":")";
  line.append(stamp, length).append(millis);
  line.append(R"(","level":")").append(level_name(level)).append(R"(","message":)");
  append_json_string(line, message);
  for (const Field& field : fields) {
    line.push_back(',');
    append_json_string(line, field.key);
    line.push_back(':');
    if (field.number) {
      line.append(field.value);
    } else {
      append_json_string(line, field.value);
    }
  }
  line.push_back('}');
  return line;
}

std::string text_line(Level level, std::string_view message, Fields fields) {
  std::string line = level_name(level);
  line.append(6 - line.size(), ' ');
  append_escaped(line, message, "");
  for (const Field& field : fields) {
    line.append(" ").append(field.key).append("=");
    if (needs_quotes(field.value)) {
      append_json_string(line, field.value);
    } else {
      line.append(field.value);
    }
  }
  return line;
}

}  // namespace

Result<void> configure(const Options& options) {
  Descriptor file;
  if (!options.file.empty()) {
    file.reset(::open(options.file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
    if (!file) return fail_errno("cannot open the log file " + options.file + " (log.file)");
  }
  auto logger = make_logger(options, std::move(file));
  State& s = state();
  const std::scoped_lock lock(s.mutex);
  s.options = options;
  s.logger = std::move(logger);
  return {};
}

Result<void> reopen() {
  State& s = state();
  Options options;
  {
    const std::scoped_lock lock(s.mutex);
    options = s.options;
  }
  return options.file.empty() ? Result<void>{} : configure(options);
}

void write(Level level, std::string_view message, Fields fields) {
  State& s = state();
  std::shared_ptr<spdlog::logger> logger;
  Format format;
  {
    const std::scoped_lock lock(s.mutex);
    if (level < s.options.level) return;
    logger = s.logger;
    format = s.options.format;
  }
  logger->log(spdlog_level(level), format == Format::kJson ? json_line(level, message, fields)
                                                           : text_line(level, message, fields));
}

}  // namespace relayd::log
