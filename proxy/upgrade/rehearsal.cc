#include "proxy/upgrade/rehearsal.h"

#include <sys/resource.h>
#include <unistd.h>

#include <charconv>
#include <cstdio>
#include <cstdlib>

#include "proxy/base/descriptor.h"
#include "proxy/upgrade/image.h"
#include "proxy/upgrade/record.h"

namespace relayd::upgrade {
namespace {

constexpr const char* kVariable = "RELAYD_REHEARSE";
constexpr std::string_view kReads = "relayd reads states up to ";
constexpr std::string_view kWord = "relayd can take over: process ";
constexpr std::string_view kVersionWord = " version ";
// Descriptors are passed as sockets are: 3, 4.
constexpr const char* kState = "3";
constexpr const char* kImagePath = "/proc/self/fd/4";

std::map<std::string, std::string> own_environment() {
  std::map<std::string, std::string> environment;
  for (char** entry = ::environ; *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    const std::size_t equals = text.find('=');
    if (equals != std::string_view::npos)
      environment.emplace(text.substr(0, equals), text.substr(equals + 1));
  }
  return environment;
}

// The pipe's end for the process, and what reads the other one.
struct Output {
  Descriptor write;
  std::unique_ptr<backend::OutputTail> tail;
};
Result<Output> make_output(Loop& loop) {
  auto pipe = make_pipe();
  if (!pipe) return std::unexpected(pipe.error());
  auto tail = backend::OutputTail::create(loop, std::move(pipe->read), -1);
  if (!tail) return std::unexpected(tail.error());
  return Output{std::move(pipe->write), std::move(*tail)};
}

}  // namespace

Result<std::unique_ptr<Rehearsal>> Rehearsal::start(Loop& loop, backend::Keeper& keeper, int image,
                                                    const std::string& path, int state,
                                                    std::function<void(const Verdict&)> done) {
  std::unique_ptr<Rehearsal> rehearsal(new Rehearsal(loop, path, std::move(done)));
  auto words = make_output(loop);
  if (!words) return std::unexpected(words.error());
  auto errors = make_output(loop);
  if (!errors) return std::unexpected(errors.error());
  backend::Program program;
  program.command.emplace_back(kImagePath);
  for (char** argument = arguments() + 1; *argument != nullptr; ++argument)
    program.command.emplace_back(*argument);
  program.env = own_environment();
  program.env[kVariable] = kState;
  Rehearsal* const self = rehearsal.get();
  auto child = backend::Child::start(
      loop, keeper, program, {words->write.get(), errors->write.get(), {{state, "state"}, {image, "image"}}},
      [self](const backend::ExitReport& report) { self->on_exit(report); });
  if (!child) return fail(path + " cannot be started: " + child.error().message, child.error().code);
  rehearsal->words_ = std::move(words->tail);
  rehearsal->errors_ = std::move(errors->tail);
  rehearsal->child_ = std::move(*child);
  rehearsal->limit_.start(kPatience, [self] {
    self->too_late_ = true;
    self->child_->kill_group();
  });
  return rehearsal;
}

void Rehearsal::on_exit(const backend::ExitReport& report) {
  limit_.stop();
  words_->drain();
  errors_->drain();
  const std::string said = words_->text();
  const std::string errors = errors_->text();
  const auto callback = done_;
  std::uint32_t newest_state = 0;
  if (said.starts_with(kReads))
    std::from_chars(said.data() + kReads.size(), said.data() + said.size(), newest_state);
  const std::size_t word = said.find(kWord);
  const std::size_t version = said.find(kVersionWord);
  bool other_process = false;
  if (!report.signaled && report.status == 0 && newest_state != 0 && word != std::string::npos &&
      version != std::string::npos) {
    if (said.substr(word + kWord.size(), version - word - kWord.size()) == std::to_string(report.pid))
      return callback({said.substr(version + kVersionWord.size()), newest_state});
    other_process = true;
  }
  std::string why = path_ + " cannot take over: ";
  if (too_late_) {
    why += "it did not answer within " + std::to_string(kPatience.count() / 1000) + " s";
  } else if (report.signaled || report.status != 0) {
    why += report.describe();
  } else if (other_process) {
    why += "it starts relayd as another process; a wrapper has to exec it";
  } else {
    why += "it ended without a word, as if it were no relayd";
  }
  if (!errors.empty()) why += "; it said: " + errors;
  callback({fail(std::move(why)), newest_state});
}

bool is_rehearsal(int& state) {
  const char* value = std::getenv(kVariable);
  if (value == nullptr) return false;
  state = std::atoi(value);
  const bool by_relayd = is_sealed_memory(state);  // not somebody else's variable
  if (!by_relayd) {
    ::unsetenv(kVariable);
    return false;
  }
  for (const char* name : {kVariable, "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"}) ::unsetenv(name);
  return true;
}

int rehearse(int state, std::string_view version, std::uint32_t newest_state) {
  std::printf("%.*s%u\n", static_cast<int>(kReads.size()), kReads.data(), newest_state);
  std::fflush(stdout);
  const auto bytes = read_memory(state);
  if (!bytes) {
    std::fprintf(stderr, "%s\n", bytes.error().message.c_str());
    return 1;
  }
  const auto record = decode(*bytes, newest_state);
  if (!record) {
    std::fprintf(stderr, "%s\n", record.error().message.c_str());
    return 1;
  }
  if (const std::uint64_t lost = record->capabilities & ~capabilities(); lost != 0) {
    std::fprintf(
        stderr,
        "it would run with fewer capabilities than the one that runs (%#llx are missing): setcap(8) the "
        "new file as the former one was\n",
        static_cast<unsigned long long>(lost));
    return 1;
  }
  rlimit own{};
  rlimit former{};
  const bool both_known =
      ::getrlimit(RLIMIT_NOFILE, &own) == 0 && ::prlimit(record->pid, RLIMIT_NOFILE, nullptr, &former) == 0;
  if (both_known && own.rlim_cur < former.rlim_cur) {
    std::fprintf(
        stderr,
        "it would run with fewer open files (%llu) than the one that runs (%llu): a wrapper must not "
        "lower ulimit -n\n",
        static_cast<unsigned long long>(own.rlim_cur), static_cast<unsigned long long>(former.rlim_cur));
    return 1;
  }
  std::printf("%.*s%d%.*s%.*s\n", static_cast<int>(kWord.size()), kWord.data(), static_cast<int>(::getpid()),
              static_cast<int>(kVersionWord.size()), kVersionWord.data(), static_cast<int>(version.size()),
              version.data());
  return std::fflush(stdout) == 0 ? 0 : 1;
}

}  // namespace relayd::upgrade
