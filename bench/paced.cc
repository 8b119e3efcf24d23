#include "bench/paced.h"

#include <sys/prctl.h>

#include <algorithm>
#include <cstdio>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "bench/work.h"

namespace relayd::bench {
namespace {

constexpr std::uint64_t kFreshOneIn = 10;
constexpr std::size_t kTripSize = 128;
constexpr std::chrono::seconds kPatience{10};  // after the last unit was due

std::string quantiles(const char* name, std::vector<double> latencies) {
  if (latencies.empty()) return std::string("\"") + name + "\": null";
  std::sort(latencies.begin(), latencies.end());
  const auto at = [&](double share) {
    return latencies[static_cast<std::size_t>(share * static_cast<double>(latencies.size() - 1))];
  };
  char text[200];
  std::snprintf(text, sizeof text,
                R"("%s": {"p50": %.1f, "p99": %.1f, "p999": %.1f, "max": %.1f, "units": %zu})", name, at(0.5),
                at(0.99), at(0.999), latencies.back(), latencies.size());
  return text;
}

class Paced {
 public:
  Paced(Load& load, const Pace& pace) : load_(load), pace_(pace), kept_(pace.kept) {
    load_.done = [](Session&) {};
    for (Session& session : kept_) {
      if (load_.open(session)) load_.begin(session, text_request(kEcho, kTripSize), kTripSize);
    }
    load_.run();
    for (Session& session : kept_) {
      if (session.fd >= 0) idle_.push_back(&session);
    }
  }

  void run() {
    ::prctl(PR_SET_TIMERSLACK, 1);  // ns; 50 us otherwise, which is as long as what is measured
    const Report report;
    load_.units = 0;
    load_.done = [this](Session& session) { finish(session); };
    const std::uint64_t total = pace_.rate * static_cast<std::uint64_t>(pace_.length.count()) / 1000;
    const std::chrono::nanoseconds step{1'000'000'000 / pace_.rate};
    const Clock::time_point began = Clock::now();
    const auto due = [&](std::uint64_t number) { return began + step * static_cast<long>(number); };
    const Clock::time_point last = due(total) + kPatience;
    for (std::uint64_t next = 0; next < total || load_.busy() > 0 || !late_.empty();) {
      const Clock::time_point now = Clock::now();
      if (now > last) break;
      for (; next < total && due(next) <= now; ++next) start(next, due(next));
      const Clock::time_point until = next < total ? due(next) : last;
      load_.run_once(std::max(until - Clock::now(), Clock::duration::zero()));
    }
    load_.errors.timed_out += load_.busy() + late_.size();
    std::vector<double> all = trips_;
    all.insert(all.end(), connections_.begin(), connections_.end());
    report.print(load_, load_.units,
                 R"(, "latency_us": {)" + quantiles("all", std::move(all)) + ", " +
                     quantiles("trip", trips_) + ", " + quantiles("connection", connections_) + "}");
  }

 private:
  void start(std::uint64_t number, Clock::time_point due) {
    if (number % kFreshOneIn == kFreshOneIn - 1) {
      connect(due);
    } else if (idle_.empty()) {
      late_.push_back(due);
    } else {
      Session& session = *idle_.back();
      idle_.pop_back();
      ask(session, due);
    }
  }

  void connect(Clock::time_point due) {
    if (spare_.empty()) {
      fresh_.push_back(std::make_unique<Session>());
      spare_.push_back(fresh_.back().get());
    }
    Session& session = *spare_.back();
    session.due = due;
    if (!load_.open(session)) return;
    spare_.pop_back();
    load_.begin(session, text_request(kOnce, kOnceSize), kOnceSize, true);
  }

  void ask(Session& session, Clock::time_point due) {
    session.due = due;
    load_.begin(session, text_request(kEcho, kTripSize), kTripSize);
  }

  void finish(Session& session) {
    const std::chrono::duration<double, std::micro> passed = Clock::now() - session.due;
    if (session.await_end) {
      connections_.push_back(passed.count());
      load_.close(session);
      spare_.push_back(&session);
      return;
    }
    trips_.push_back(passed.count());
    if (late_.empty()) {
      idle_.push_back(&session);
      return;
    }
    const Clock::time_point due = late_.front();
    late_.pop_front();
    ask(session, due);
  }

  Load& load_;
  Pace pace_;
  std::vector<Session> kept_;
  std::vector<Session*> idle_;
  std::vector<std::unique_ptr<Session>> fresh_;  // the load keeps their addresses
  std::vector<Session*> spare_;
  std::deque<Clock::time_point> late_;       // due, and no kept connection was free
  std::vector<double> trips_, connections_;  // us
};

}  // namespace

void paced(Load& load, const Pace& pace) { Paced(load, pace).run(); }

}  // namespace relayd::bench
