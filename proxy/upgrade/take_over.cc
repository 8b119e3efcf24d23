#include "proxy/upgrade/take_over.h"

#include <fcntl.h>
#include <sys/time.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <iterator>
#include <string_view>
#include <vector>

#include "proxy/upgrade/image.h"

namespace relayd::upgrade {
namespace {

constexpr const char* kVariable = "RELAYD_TAKE_OVER";
constexpr const char* kFailureVariable = "RELAYD_TAKE_OVER_FAILED";
// What a crash, or a watch that has run out, comes as.
constexpr int kFaults[] = {SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGSYS, SIGTRAP, SIGALRM};
constexpr std::size_t kAlternateStack = std::size_t{64} * 1024;

// All that going back needs, made ready by arm(): a handler of a signal may not allocate.
struct WayBack {
  struct sigaction before[std::size(kFaults)] = {};
  std::atomic<bool> armed{false};
  int former = -1;
  std::vector<char*> environment;
  char taken_over[64] = {};
  char failure[1024] = {};
  stack_t stack_before{};
  char alternate_stack[kAlternateStack] = {};
};
WayBack way_back;

void append(char*& at, const char* end, std::string_view text) {
  for (const char byte : text) {
    if (at + 1 < end) *at++ = byte == '\n' ? ' ' : byte;
  }
  *at = '\0';
}

void append_number(char*& at, const char* end, int number) {
  char digits[16];
  const auto written = std::to_chars(digits, digits + sizeof digits, number);
  append(at, end, {digits, static_cast<std::size_t>(written.ptr - digits)});
}

void set_alarm(unsigned seconds) {
  itimerval limit{};
  limit.it_value.tv_sec = seconds;
  ::setitimer(ITIMER_REAL, &limit, nullptr);
}

// Without what the former image has said about an upgrade.
std::vector<char*> environment_without_upgrades() {
  std::vector<char*> environment;
  for (char** entry = ::environ; *entry != nullptr; ++entry) {
    const std::string_view text = *entry;
    if (text.starts_with(kVariable)) continue;  // the other one too
    environment.push_back(*entry);
  }
  return environment;
}

void on_fault(int number) {
  if (number == SIGALRM) go_back("it was not done within 10 s");
  char why[64];
  char* at = why;
  append(at, why + sizeof why, "it crashed: SIG");
  const char* name = ::sigabbrev_np(number);
  append(at, why + sizeof why, name != nullptr ? name : "?");
  go_back(why);
}

void on_terminate() {
  std::string why = "an exception";
  if (const std::exception_ptr thrown = std::current_exception()) {
    try {
      std::rethrow_exception(thrown);
    } catch (const std::exception& e) {
      why = e.what();
    } catch (...) {
      why = "an unknown exception";
    }
  }
  go_back(why.c_str());
}

void on_exit() {
  if (way_back.armed) go_back("it ended itself");
}

}  // namespace

std::optional<HandedOver> handed_over() {
  const char* value = std::getenv(kVariable);
  if (value == nullptr) return std::nullopt;
  HandedOver handed;
  const std::string_view text = value;
  const std::size_t colon = text.find(':');
  std::from_chars(text.data(), text.data() + std::min(colon, text.size()), handed.state);
  if (colon != std::string_view::npos)
    std::from_chars(text.data() + colon + 1, text.data() + text.size(), handed.former);
  if (const char* why = std::getenv(kFailureVariable)) handed.failure = why;
  ::unsetenv(kVariable);
  ::unsetenv(kFailureVariable);
  // Somebody else's variable: an image of relayd's leaves sealed memory.
  if (!is_sealed_memory(handed.state)) return std::nullopt;
  return handed;
}

Error hand_over(int state, int image, int former) {
  std::vector<char*> environment = environment_without_upgrades();
  std::string variable = std::string(kVariable) + "=" + std::to_string(state) + ":" + std::to_string(former);
  environment.push_back(variable.data());
  environment.push_back(nullptr);
  execute(image, environment.data());
  return errno_error("exec", errno);
}

void arm(const HandedOver& handed) {
  way_back.former = handed.former;
  way_back.environment = environment_without_upgrades();
  char* at = way_back.taken_over;
  const char* end = way_back.taken_over + sizeof way_back.taken_over;
  append(at, end, kVariable);
  append(at, end, "=");
  append_number(at, end, handed.state);
  append(at, end, ":-1");
  way_back.environment.push_back(way_back.taken_over);
  way_back.environment.push_back(way_back.failure);
  way_back.environment.push_back(nullptr);
  way_back.armed = true;

  stack_t stack{};  // a stack that has overflowed has no room for a handler
  stack.ss_sp = way_back.alternate_stack;
  stack.ss_size = sizeof way_back.alternate_stack;
  ::sigaltstack(&stack, &way_back.stack_before);
  struct sigaction action {};
  action.sa_handler = on_fault;
  action.sa_flags = SA_ONSTACK;
  sigfillset(&action.sa_mask);
  sigset_t faults;
  sigemptyset(&faults);
  for (std::size_t i = 0; i < std::size(kFaults); ++i) {
    ::sigaction(kFaults[i], &action, &way_back.before[i]);
    sigaddset(&faults, kFaults[i]);
  }
  ::sigprocmask(SIG_UNBLOCK, &faults, nullptr);  // the others wait for commit()
  std::set_terminate(on_terminate);
  std::atexit(on_exit);
  if (handed.former >= 0) set_alarm(kPatienceSeconds);
}

void go_back(const char* why) {
  way_back.armed = false;
  set_alarm(0);
  char* at = way_back.failure;
  const char* end = way_back.failure + sizeof way_back.failure;
  append(at, end, kFailureVariable);
  append(at, end, "=");
  append(at, end, why);
  if (way_back.former >= 0) execute(way_back.former, way_back.environment.data());
  constexpr std::string_view kLost = "relayd: cannot go back to the former executable: ";
  [[maybe_unused]] ssize_t written = ::write(STDERR_FILENO, kLost.data(), kLost.size());
  written = ::write(STDERR_FILENO, why, std::strlen(why));
  written = ::write(STDERR_FILENO, "\n", 1);
  ::_exit(1);
}

void commit(const HandedOver& handed) {
  set_alarm(0);
  way_back.armed = false;
  std::set_terminate(std::abort);
  for (std::size_t i = 0; i < std::size(kFaults); ++i) ::sigaction(kFaults[i], &way_back.before[i], nullptr);
  ::sigaltstack(&way_back.stack_before, nullptr);
  ::close(handed.state);
  sigset_t nothing;
  sigemptyset(&nothing);
  ::sigprocmask(SIG_SETMASK, &nothing, nullptr);
}

}  // namespace relayd::upgrade
