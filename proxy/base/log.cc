#include "proxy/base/log.h"

#include <fcntl.h>
#include <spdlog/common.h>
#include <spdlog/logger.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>

#include <cerrno>
#include <memory>
#include <mutex>

#include "proxy/base/descriptor.h"

namespace relayd::log {
namespace {

struct State {
  std::mutex mutex;  // guards what follows; a line is formatted outside and written inside spdlog's own lock
  Options options;
  std::shared_ptr<spdlog::logger> logger;
};

std::shared_ptr<spdlog::logger> make_logger(const Options& options) {
  spdlog::sink_ptr sink;
  if (options.file.empty()) {
    sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
  } else {
    sink = std::make_shared<spdlog::sinks::basic_file_sink_mt>(options.file, /*truncate=*/false);
  }
  auto logger = std::make_shared<spdlog::logger>("relayd", sink);
  // A log that cannot be written (a full disk) must never stop the proxy, nor fill standard error.
  logger->set_error_handler([](const std::string&) {});
  logger->set_pattern(options.format == Format::kJson ? "%v" : "%Y-%m-%dT%H:%M:%S.%e%z %-5!l %v",
                      spdlog::pattern_time_type::local);
  logger->set_level(spdlog::level::trace);
  logger->flush_on(spdlog::level::trace);
  return logger;
}

State& state() {
  static State* instance = new State{{}, {}, make_logger({})};  // never destroyed: threads may log at exit
  return *instance;
}

spdlog::level::level_enum spdlog_level(Level level) {
  switch (level) {
    case Level::kDebug: return spdlog::level::debug;
    case Level::kInfo: return spdlog::level::info;
    case Level::kWarn: return spdlog::level::warn;
    case Level::kError: return spdlog::level::err;
  }
  return spdlog::level::info;
}

const char* level_name(Level level) {
  switch (level) {
    case Level::kDebug: return "debug";
    case Level::kInfo: return "info";
    case Level::kWarn: return "warn";
    case Level::kError: return "error";
  }
  return "info";
}

void append_json_string(std::string& out, std::string_view text) {
  out.push_back('"');
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out.push_back('\\');
      out.push_back(c);
    } else if (c == '\n') {
      out.append("\\n");
    } else if (static_cast<unsigned char>(c) < 0x20) {
      constexpr char kHex[] = "0123456789abcdef";
      out.append("\\u00").push_back(kHex[(c >> 4) & 15]);
      out.push_back(kHex[c & 15]);
    } else {
      out.push_back(c);
    }
  }
  out.push_back('"');
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

std::string text_line(std::string_view message, Fields fields) {
  std::string line(message);
  for (const Field& field : fields) {
    line.append(" ").append(field.key).append("=");
    if (field.value.empty() || field.value.find_first_of(" \"\n=") != std::string::npos) {
      append_json_string(line, field.value);
    } else {
      line.append(field.value);
    }
  }
  return line;
}

}  // namespace

Result<void> configure(const Options& options) {
  if (!options.file.empty()) {
    // spdlog throws with less to say; ask the kernel first.
    const Descriptor probe(::open(options.file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644));
    if (!probe) return fail_errno("cannot open the log file " + options.file);
  }
  std::shared_ptr<spdlog::logger> logger;
  try {
    logger = make_logger(options);
  } catch (const spdlog::spdlog_ex& e) {
    return fail("cannot open the log file " + options.file + ": " + e.what());
  }
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
  logger->log(spdlog_level(level),
              format == Format::kJson ? json_line(level, message, fields) : text_line(message, fields));
}

}  // namespace relayd::log
