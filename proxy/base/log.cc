#include "proxy/base/log.h"

#include <fcntl.h>
#include <spdlog/common.h>
#include <spdlog/details/null_mutex.h>
#include <spdlog/logger.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/base_sink.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <ctime>
#include <memory>
#include <mutex>

#include "proxy/base/descriptor.h"
#include "proxy/base/utf8.h"
#include "proxy/base/write_now.h"

namespace relayd::log {
namespace {

struct State {
  std::mutex mutex;  // guards what follows; a line is formatted outside and written inside spdlog's own lock
  Options options;
  std::shared_ptr<spdlog::logger> logger;
};

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

std::string line_of(Format format, Level level, std::string_view message, Fields fields) {
  return format == Format::kJson ? json_line(level, message, fields) : text_line(level, message, fields);
}

// Lines that standard error has not taken. It outlives every change of the log's options.
struct Backlog {
  std::mutex mutex;
  std::string rest;        // of a line of which a part is written
  std::uint64_t lost = 0;  // since the last line that was written
};

Backlog& backlog() {
  static Backlog* instance = new Backlog;  // never destroyed: threads may log at exit
  return *instance;
}

// Writes to standard error and never waits for whoever reads it: a line that cannot go now is dropped and
// counted, and the count goes before the next line that can.
class StandardErrorSink : public spdlog::sinks::base_sink<spdlog::details::null_mutex> {
 public:
  explicit StandardErrorSink(Format format) : format_(format) {}

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    Backlog& b = backlog();
    const std::scoped_lock lock(b.mutex);  // guards the formatter too
    b.rest.erase(0, write(b.rest));
    std::string text;
    if (b.rest.empty()) {
      if (b.lost > 0) append_count(text, message, b.lost);
      append(text, message);
    }
    const std::size_t written = write(text);
    if (written == 0) {
      ++b.lost;
      return;
    }
    b.lost = 0;
    b.rest = text.substr(written);
  }
  void flush_() override {}

 private:
  // The bytes of `text` that standard error takes now.
  static std::size_t write(std::string_view text) {
    std::size_t written = 0;
    while (written < text.size()) {
      const ssize_t count = write_now(STDERR_FILENO, text.substr(written));
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) break;
      written += static_cast<std::size_t>(count);
    }
    return written;
  }

  void append(std::string& out, const spdlog::details::log_msg& message) {
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    out.append(line.data(), line.size());
  }

  // With the time of `next`, the line that it goes before.
  void append_count(std::string& out, spdlog::details::log_msg next, std::uint64_t lost) {
    const std::string what =
        std::to_string(lost) + (lost == 1 ? " line" : " lines") + " lost: nobody reads standard error";
    const std::string line = line_of(format_, Level::kWarn, what, {});
    next.payload = line;
    append(out, next);
  }

  const Format format_;
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
    sink = std::make_shared<StandardErrorSink>(options.format);
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

}  // namespace

Result<void> configure(const Options& options) {
  Descriptor file;
  if (!options.file.empty()) {
    file.reset(::open(options.file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOCTTY | O_NONBLOCK,
                      0644));
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
  logger->log(spdlog_level(level), line_of(format, level, message, fields));
}

}  // namespace relayd::log
