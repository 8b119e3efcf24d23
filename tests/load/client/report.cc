#include "tests/load/client/report.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

namespace relayd::load {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kComplaintsKept = 12;
constexpr std::array kLosses = {Ending::kRefused,   Ending::kReset,   Ending::kTruncated,  Ending::kTimedOut,
                                Ending::kBadStatus, Ending::kBadBody, Ending::kClosedEarly};

const char* name(Ending ending) {
  switch (ending) {
    case Ending::kAnswered:
      return "answered";
    case Ending::kRefused:
      return "refused";
    case Ending::kReset:
      return "reset";
    case Ending::kTruncated:
      return "truncated";
    case Ending::kTimedOut:
      return "timed_out";
    case Ending::kBadStatus:
      return "bad_status";
    case Ending::kBadBody:
      return "bad_body";
    case Ending::kClosedEarly:
      return "closed_early";
    case Ending::kClientError:
      return "client_error";
  }
  return "unknown";
}

std::uint64_t count(const std::map<Ending, std::uint64_t>& endings, Ending ending) {
  const auto found = endings.find(ending);
  return found == endings.end() ? 0 : found->second;
}

double milliseconds(Nanoseconds time) {
  return std::round(std::chrono::duration<double, std::milli>(time).count() * 1000) / 1000;
}

}  // namespace

unsigned LatencyTable::bucket(std::uint64_t microseconds) {
  if (microseconds < kSteps) return static_cast<unsigned>(microseconds);
  const unsigned shift = static_cast<unsigned>(std::bit_width(microseconds)) - 6;
  return (shift + 1) * kSteps + static_cast<unsigned>((microseconds >> shift) - kSteps);
}

double LatencyTable::middle_ms(unsigned bucket) {
  if (bucket < kSteps) return bucket / 1000.0;
  const unsigned shift = bucket / kSteps - 1;
  return (static_cast<double>(bucket % kSteps + kSteps) + 0.5) * std::exp2(shift) / 1000.0;
}

void LatencyTable::add(Nanoseconds value) {
  const auto microseconds = std::chrono::duration_cast<std::chrono::microseconds>(value).count();
  const unsigned place = bucket(microseconds > 0 ? static_cast<std::uint64_t>(microseconds) : 0);
  ++counts_[std::min<std::size_t>(place, counts_.size() - 1)];
  ++total_;
}

double LatencyTable::percentile_ms(double percent) const {
  const double wanted = static_cast<double>(total_) * percent / 100;
  std::uint64_t seen = 0;
  for (unsigned i = 0; i < counts_.size(); ++i) {
    seen += counts_[i];
    if (seen > 0 && static_cast<double>(seen) >= wanted) return middle_ms(i);
  }
  return 0;
}

void OrderCheck::answered(std::uint64_t request, const AnswerFacts& facts, std::uint64_t newest_request) {
  const auto [place, first] = instances_.try_emplace({facts.generation, facts.instance});
  if (first) place->second.newest_at_first_answer = newest_request;
  if (request <= place->second.newest_at_first_answer)
    place->second.accepted.emplace_back(request, facts.accepted);
}

std::uint64_t OrderCheck::violations() const {
  std::uint64_t found = 0;
  for (const auto& [instance, waiting] : instances_) {
    auto sorted = waiting.accepted;
    std::ranges::sort(sorted);
    for (std::size_t i = 1; i < sorted.size(); ++i) {
      if (sorted[i].second < sorted[i - 1].second) ++found;
    }
  }
  return found;
}

std::uint64_t OrderCheck::compared() const {
  std::uint64_t sum = 0;
  for (const auto& [instance, waiting] : instances_) sum += waiting.accepted.size();
  return sum;
}

Report::Report(const Options& options)
    : options_(options), started_(std::chrono::steady_clock::now()), last_answer_(started_) {}

void Report::ended(Ending ending, const Exchange& exchange, unsigned client, std::uint64_t request,
                   std::uint64_t newest_request, Moment begun, Moment now, const std::string& complaint) {
  ++endings_[ending];
  if (ending != Ending::kAnswered) {
    if (complaints_.size() < kComplaintsKept) {
      char when[32];
      std::snprintf(when, sizeof when, "%.3fs ", std::chrono::duration<double>(now - started_).count());
      complaints_.push_back(std::string(when) + name(ending) + ": " + complaint + " (after " +
                            std::to_string(static_cast<std::int64_t>(milliseconds(now - begun))) + " ms)");
    }
    return;
  }
  latencies_.add(now - begun);
  longest_latency_ = std::max<Nanoseconds>(longest_latency_, now - begun);
  longest_silence_ = std::max<Nanoseconds>(longest_silence_, now - last_answer_);
  last_answer_ = now;
  const AnswerFacts& facts = exchange.facts();
  if (!facts.generation.empty()) {
    ++generations_[facts.generation];
    clients_[facts.generation].insert(client);
  }
  if (!facts.instance.empty()) ++instances_[facts.generation + "." + facts.instance];
  if (options_.check_order) order_.answered(request, facts, newest_request);
}

std::uint64_t Report::lost() const {
  std::uint64_t sum = 0;
  for (const Ending ending : kLosses) sum += count(endings_, ending);
  return sum;
}

void Report::print_progress(Moment now, std::uint64_t waiting) {
  const std::uint64_t answered = count(endings_, Ending::kAnswered);
  std::fprintf(stderr, "%6.1fs  %8llu answered  %6llu/s  %llu waiting  %llu lost\n",
               std::chrono::duration<double>(now - started_).count(),
               static_cast<unsigned long long>(answered),
               static_cast<unsigned long long>(answered - answered_at_last_progress_),
               static_cast<unsigned long long>(waiting), static_cast<unsigned long long>(lost()));
  answered_at_last_progress_ = answered;
}

std::string Report::to_json(Moment now) const {
  Json losses;
  for (const Ending ending : kLosses) losses[name(ending)] = count(endings_, ending);
  Json latency;
  for (const auto& [key, percent] : {std::pair{"p50", 50.0}, {"p90", 90.0}, {"p99", 99.0}, {"p999", 99.9}}) {
    latency[key] = std::round(latencies_.percentile_ms(percent) * 1000) / 1000;
  }
  latency["max"] = milliseconds(longest_latency_);
  Json report;
  report["requests"] = count(endings_, Ending::kAnswered) + lost();
  report["answered"] = count(endings_, Ending::kAnswered);
  report["lost"] = lost();
  report["losses"] = losses;
  report["client_errors"] = count(endings_, Ending::kClientError);
  report["unfinished"] = unfinished_;
  report["connections"] = connections_;
  report["closed_between_requests"] = closed_between_requests_;
  report["longest_stall_ms"] = milliseconds(longest_stall_);
  report["longest_silence_ms"] = milliseconds(longest_silence_);
  report["latency_ms"] = latency;
  report["generations"] = generations_;
  report["instances"] = instances_;
  for (const auto& [generation, clients] : clients_) report["clients_of"][generation] = clients.size();
  if (options_.check_order) {
    report["order_compared"] = order_.compared();
    report["order_violations"] = order_.violations();
  }
  report["complaints"] = complaints_;
  report["seconds"] = milliseconds(now - started_) / 1000;
  return report.dump(2);
}

int Report::exit_status() const {
  if (count(endings_, Ending::kClientError) > 0) return 3;
  return lost() > 0 || unfinished_ > 0 || order_.violations() > 0 ? 1 : 0;
}

}  // namespace relayd::load
