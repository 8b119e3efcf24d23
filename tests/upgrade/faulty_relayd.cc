// A relayd that does as any other, but for what RELAYD_FAULT names: in the moment in which it takes another
// one's place it fails in that way; or it is of the release before, or of one that is too old.
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <stdexcept>
#include <string_view>

#include "proxy/daemon/relayd.h"

namespace {

// Each frame needs its own, so that it ends where the stack does.
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Winfinite-recursion"
[[gnu::noinline]] int overflow(volatile char* before) {
  volatile char frame[4096];
  frame[0] = *before;
  return overflow(frame) + frame[0];
}
#pragma GCC diagnostic pop

void fail_as_told() {
  const char* told = std::getenv("RELAYD_FAULT");
  const std::string_view fault = told != nullptr ? told : "";
  if (fault == "crash") std::raise(SIGSEGV);
  if (fault == "overflow") {
    volatile char start = 0;
    std::exit(overflow(&start));
  }
  if (fault == "throw") throw std::runtime_error("a fault for a test");
  if (fault == "exit") std::exit(0);
  if (fault == "abort") std::abort();
  while (fault == "hang") ::pause();
}

}  // namespace

int main(int argc, char** argv) {
  const char* told = std::getenv("RELAYD_FAULT");
  const std::string_view fault = told != nullptr ? told : "";
  relayd::Oddities oddities{.before_commit = fail_as_told};
  if (fault == "older") oddities.newest_state = relayd::upgrade::kVersion - 1;
  if (fault == "ancient") oddities.newest_state = relayd::upgrade::kOldestVersion - 1;
  return relayd::relayd_main(argc, argv, oddities);
}
