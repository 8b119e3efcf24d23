#include <signal.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdio>
#include <memory>
#include <vector>

#include "tests/load/client/client.h"

namespace {

using relayd::load::Client;
using relayd::load::Moment;
using relayd::load::Options;
using relayd::load::Report;
using relayd::load::Run;
using std::chrono::milliseconds;

constexpr unsigned kSignals = UINT32_MAX;
constexpr milliseconds kTick{10};

Moment moment() { return std::chrono::steady_clock::now(); }

relayd::Descriptor end_signals() {
  sigset_t set;
  ::sigemptyset(&set);
  ::sigaddset(&set, SIGTERM);
  ::sigaddset(&set, SIGINT);
  ::sigprocmask(SIG_BLOCK, &set, nullptr);
  return relayd::Descriptor(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
}

std::uint64_t busy(const std::vector<std::unique_ptr<Client>>& clients) {
  return static_cast<std::uint64_t>(
      std::ranges::count_if(clients, [](const auto& client) { return client->busy(); }));
}

// The first TERM or INT lets requests under way finish; the second gives them up.
void serve(const Options& options, Run& run, std::vector<std::unique_ptr<Client>>& clients, int signals) {
  const Moment started = moment();
  const milliseconds tick = std::min(kTick, std::max(options.think, milliseconds(1)));
  Moment next_tick = started;
  Moment next_progress = started + milliseconds(1000);
  std::array<epoll_event, 256> events{};
  while (run.may_begin() || busy(clients) > 0) {
    const int count = ::epoll_wait(run.epoll, events.data(), static_cast<int>(events.size()),
                                   static_cast<int>(tick.count()));
    const Moment now = moment();
    for (int i = 0; i < count; ++i) {
      const epoll_event& event = events[static_cast<std::size_t>(i)];
      if (event.data.u32 == kSignals) {
        signalfd_siginfo info{};
        if (::read(signals, &info, sizeof info) <= 0) continue;
        if (run.stopping) return;
        run.stopping = true;
      } else {
        Client& client = *clients[event.data.u32];
        client.on_events(event.events, moment());
        if (!client.busy()) client.on_tick(moment());
      }
    }
    if (options.duration.count() > 0 && now - started >= options.duration) run.stopping = true;
    if (now >= next_tick) {
      for (const auto& client : clients) client->on_tick(now);
      next_tick = now + tick;
    }
    if (options.progress && now >= next_progress) {
      run.report.print_progress(now, busy(clients));
      next_progress += milliseconds(1000);
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  int status = 0;
  if (!read_options(argc, argv, options, status)) return status;

  rlimit files{};
  if (::getrlimit(RLIMIT_NOFILE, &files) == 0) {
    files.rlim_cur = files.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &files);
  }
  const relayd::Descriptor signals = end_signals();
  const relayd::Descriptor epoll(::epoll_create1(EPOLL_CLOEXEC));
  epoll_event event{};
  event.events = EPOLLIN;
  event.data.u32 = kSignals;
  ::epoll_ctl(epoll.get(), EPOLL_CTL_ADD, signals.get(), &event);

  Report report(options);
  char prefix[32];
  std::snprintf(prefix, sizeof prefix, "%x.%llx", static_cast<unsigned>(::getpid()),
                static_cast<unsigned long long>(moment().time_since_epoch().count()));
  Run run{options, report, epoll.get(), prefix};
  std::vector<std::unique_ptr<Client>> clients;
  clients.reserve(options.clients);
  for (unsigned i = 0; i < options.clients; ++i) clients.push_back(std::make_unique<Client>(run, i));
  serve(options, run, clients, signals.get());
  report.unfinished(busy(clients));
  std::printf("%s\n", report.to_json(moment()).c_str());
  return report.exit_status();
}
