// What signals do to relayd (contract: the table of signals; for people who know Gunicorn).
#include <unistd.h>

#include <csignal>

#include "proxy/base/log.h"
#include "proxy/daemon/daemon.h"

namespace relayd {
namespace {

// A terminal sends WINCH to its foreground processes whenever its window is resized: that must not stop a
// backend.
bool in_foreground_of_a_terminal() {
  for (const int fd : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) {
    if (::isatty(fd) != 0 && ::tcgetpgrp(fd) == ::getpgrp()) return true;
  }
  return false;
}

}  // namespace

void Daemon::watch_signals() {
  const auto on = [this](int signal, std::function<void()> callback) {
    signals_.push_back(std::make_unique<Signal>(loop_, signal, std::move(callback)));
  };
  on(SIGHUP, [this] {
    if (stopping_) return;
    look_after_control_socket();
    reload(/*all=*/true, 0, [this](const Result<ReloadSummary>& summary) { tell_of_hup(summary); });
  });
  on(SIGUSR1, [this] {
    if (const auto reopened = log::reopen(); !reopened) {
      journal_.record("warning", "the log goes on in the old file: " + reopened.error().message);
    } else {
      journal_.record("log_reopened", "the log was reopened");
    }
  });
  on(SIGUSR2, [this] {
    look_after_control_socket();
    upgrades_->ask({}, nullptr);
  });
  on(SIGWINCH, [this] { on_winch(); });
  on(SIGTTIN, [this] { on_scale_signal(+1); });
  on(SIGTTOU, [this] { on_scale_signal(-1); });
  on(SIGTERM, [this] { stop(/*fast=*/false); });
  on(SIGINT, [this] { stop(/*fast=*/true); });
  on(SIGQUIT, [this] { stop(/*fast=*/true); });
}

// Without its file nobody can ask for anything but by signals.
void Daemon::look_after_control_socket() {
  const auto again = server_->bind_again();
  if (!again) {
    journal_.record("warning",
                    "somebody has removed the control socket's file, and it cannot be made again: " +
                        again.error().message);
  } else if (*again) {
    journal_.record("warning", "somebody had removed the control socket's file; it is there again");
  }
}

void Daemon::tell_of_hup(const Result<ReloadSummary>& summary) {
  if (!summary) {
    journal_.record("reload_failed", "HUP changed nothing: " + summary.error().message,
                    {{"reason", summary.error().message}});
  } else if (!summary->failures.empty()) {
    journal_.record("reload_failed", "HUP: not every service was rolled over: " + summary->failures,
                    {{"reason", summary->failures}});
  }
}

void Daemon::on_winch() {
  if (in_foreground_of_a_terminal()) {
    journal_.record("warning",
                    "WINCH is ignored in the foreground of a terminal, which sends it when it is resized; "
                    "use `relayctl pause`");
    return;
  }
  for (const auto& service : services_) service->driver->pause(nullptr);
}

void Daemon::on_scale_signal(int change) {
  for (const auto& service : services_) {
    const unsigned now = service->driver->wanted_instances();
    if (!service->driver->serving_targets().empty()) {
      journal_.record("warning", std::string(change > 0 ? "TTIN" : "TTOU") + ": service " + service->name +
                                     " has targets, which somebody else starts: name as many as there are by "
                                     "`relayctl rollover --target`");
    } else if (change < 0 && now <= 1) {
      journal_.record("warning", "TTOU: service " + service->name +
                                     " keeps its last instance; `relayctl pause` stops it");
    } else if (change > 0 && now >= config::kMostInstances) {
      journal_.record("warning", "TTIN: service " + service->name + " has as many instances as it may");
    } else {
      service->driver->scale(static_cast<unsigned>(static_cast<int>(now) + change), nullptr);
    }
  }
  budget_descriptors();
}

}  // namespace relayd
