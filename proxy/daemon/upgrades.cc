#include "proxy/daemon/upgrades.h"

#include <algorithm>
#include <csignal>
#include <filesystem>
#include <system_error>

#include "control/protocol/version.h"
#include "proxy/daemon/daemon.h"
#include "proxy/upgrade/image.h"
#include "proxy/upgrade/take_over.h"

namespace relayd {
namespace {

// For a thread of the data plane to come to the end of its turn.
constexpr Duration kFreezePatience{2000};
// Beyond what the state took in the rehearsal, as connections come meanwhile.
constexpr std::size_t kSpareMemory = std::size_t{1} << 20;

std::int64_t now_ns() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

std::string own_version() { return std::string(control::version()); }

void block_signals(bool on) {
  sigset_t all;
  sigfillset(&all);
  ::pthread_sigmask(on ? SIG_BLOCK : SIG_UNBLOCK, &all, nullptr);
}

}  // namespace

Upgrades::Upgrades(Daemon& daemon, Loop& loop)
    : daemon_(daemon), loop_(loop), executable_(upgrade::own_path()), timer_(loop) {}

void Upgrades::ask(upgrade::RequestedUpgrade request, Answer answer) {
  if (daemon_.stopping()) {
    if (answer) {
      answer(fail("relayd is stopping"));
    } else {
      daemon_.journal().record("warning", "relayd is stopping, and is not upgraded any more");
    }
    return;
  }
  // A signal that comes again before its upgrade has begun asks for the same one.
  const auto waits = [&request](const Request& other) {
    return other.what.ticket == 0 && other.what.binary == request.binary;
  };
  const bool again = request.ticket == 0 && requests_.size() > 1 &&
                     std::any_of(requests_.begin() + 1, requests_.end(), waits);
  if (again) return;
  requests_.push_back({std::move(request), std::move(answer)});
  if (!busy_) begin_next();
}

bool Upgrades::attach(std::uint64_t ticket, Answer answer) {
  const auto asked =
      std::ranges::find_if(requests_, [ticket](const Request& r) { return r.what.ticket == ticket; });
  if (asked == requests_.end()) return false;
  asked->answer = std::move(answer);
  return true;
}

void Upgrades::refuse_all() {
  rehearsal_.reset();
  while (!requests_.empty()) {
    const Request request = std::move(requests_.front());
    requests_.pop_front();
    if (request.answer) request.answer(fail("relayd is stopping"));
  }
}

void Upgrades::begin_next() {
  busy_ = !requests_.empty();
  if (!busy_) return;
  const std::string& wanted = requests_.front().what.binary;
  std::error_code no_folder;  // relayd's own may have gone
  binary_ =
      wanted.empty() ? executable_ : std::filesystem::absolute(wanted, no_folder).lexically_normal().string();
  if (binary_.empty()) binary_ = wanted;
  daemon_.journal().record("upgrading", "relayd " + own_version() + " rehearses with " + binary_,
                           {{"from_version", own_version()}, {"binary", binary_}});
  threads_.reset();
  if (const auto newest = daemon_.read_configuration()) threads_ = newest->threads;
  if (const auto opened = open_images(); !opened) return failed(opened.error());
  state_version_ = upgrade::kVersion;
  daemon_.data_plane().save([this](net::PlaneRecord plane) { rehearse(std::move(plane)); });
}

Result<void> Upgrades::open_images() {
  auto image = upgrade::open_executable(binary_);
  if (!image) return std::unexpected(image.error());
  auto former = upgrade::open_running_executable();
  if (!former) return std::unexpected(former.error());
  image_ = std::move(*image);
  former_ = std::move(*former);
  return {};
}

void Upgrades::rehearse(net::PlaneRecord plane) {
  if (requests_.empty()) return;  // refused meanwhile
  upgrade::Record record = daemon_.save(std::move(plane));
  upgrade::leave_out_what_shares_descriptors(record);
  const std::string state = upgrade::encode(record, state_version_);
  state_size_ = state.size();
  auto memory = upgrade::reserve_memory(state.size());
  if (!memory) return failed(memory.error());
  if (const auto filled = upgrade::fill_and_seal(*memory, state); !filled) return failed(filled.error());
  auto started = upgrade::Rehearsal::start(loop_, daemon_.keeper(), image_.get(), binary_, memory->get(),
                                           [this](const auto& verdict) { rehearsed(verdict); });
  if (!started) return failed(started.error());
  rehearsal_ = std::move(*started);
}

// One that reads only older states, as the release before does, rehearses once more with such a one. Signals
// that have come are looked at by the loop first, which takes it two turns; later ones wait for the next
// image, in the kernel.
void Upgrades::rehearsed(const upgrade::Rehearsal::Verdict& verdict) {
  const auto [version, newest_state] = verdict;
  rehearsal_.reset();
  const bool knows_an_older_one = newest_state >= upgrade::kOldestVersion && newest_state < state_version_;
  if (!version && knows_an_older_one) {
    state_version_ = newest_state;
    daemon_.data_plane().save([this](net::PlaneRecord plane) { rehearse(std::move(plane)); });
    return;
  }
  if (!version) return failed(version.error());
  auto memory = upgrade::reserve_memory(state_size_ + state_size_ / 4 + kSpareMemory);
  if (!memory) return failed(memory.error());
  memory_ = std::move(*memory);
  block_signals(true);
  passes_ = 0;
  timer_.start(
      Duration::zero(),
      [this] {
        if (++passes_ < 3) return;
        timer_.stop();
        transfer();
      },
      Duration(1));
}

void Upgrades::transfer() {
  if (requests_.empty()) {  // refused meanwhile
    block_signals(false);
    return;
  }
  daemon_.manager().reloading();
  silent_since_ns_ = now_ns();
  const Error error = hand_over();
  block_signals(false);
  daemon_.manager().ready_again();
  failed(error);
}

// Returns where this image has to go on, as if nothing had been.
Error Upgrades::hand_over() {
  if (const auto frozen = daemon_.data_plane().freeze(kFreezePatience); !frozen) return frozen.error();
  Error error;
  const auto descriptors = write_state();
  if (!descriptors) {
    error = descriptors.error();
  } else if (const auto set = upgrade::make_inheritable(*descriptors); !set) {
    error = set.error();
  } else {
    error = upgrade::hand_over(memory_.get(), image_.get(), former_.get());
    error.message.insert(0, binary_ + " cannot be executed: ");
  }
  if (descriptors) upgrade::make_close_on_exec(*descriptors);
  daemon_.data_plane().thaw();
  return error;
}

// What is handed over, its descriptors being the result. A state that could not be read again is not: there
// would be no way back to this image either.
Result<std::vector<int>> Upgrades::write_state() {
  try {
    const std::string state = upgrade::encode(daemon_.save(daemon_.data_plane().frozen()), state_version_);
    const auto read = upgrade::decode(state);
    if (!read) return std::unexpected(read.error());
    if (auto filled = upgrade::fill_and_seal(memory_, state); !filled) return std::unexpected(filled.error());
    std::vector<int> descriptors = upgrade::descriptors_of(*read);
    descriptors.push_back(memory_.get());
    return descriptors;
  } catch (const std::exception& e) {
    return fail(std::string("the state cannot be written down: ") + e.what());
  }
}

void Upgrades::failed(const Error& error) {
  image_.reset();
  former_.reset();
  memory_.reset();
  answer_first(std::unexpected(error));
}

void Upgrades::answer_first(const Result<Done>& result) {
  if (result) {
    daemon_.journal().record("upgraded",
                             "relayd " + result->from_version + " was replaced by " + result->to_version +
                                 ": " + std::to_string(result->connections) +
                                 " connections kept, silent for " + std::to_string(result->silence_ms) +
                                 " ms",
                             {{"from_version", result->from_version},
                              {"to_version", result->to_version},
                              {"binary", result->binary},
                              {"connections", std::to_string(result->connections)},
                              {"silence_ms", std::to_string(result->silence_ms)}});
  } else {
    daemon_.journal().record(
        "upgrade_failed", "relayd goes on as it was: " + result.error().message,
        {{"from_version", own_version()}, {"binary", binary_}, {"reason", result.error().message}});
  }
  const Request request = requests_.empty() ? Request{} : std::move(requests_.front());
  if (!requests_.empty()) requests_.pop_front();
  // Not from inside whatever has brought this about.
  timer_.start(Duration::zero(), [this] { begin_next(); });
  if (request.answer) request.answer(result);
}

void Upgrades::save(upgrade::Record& record) const {
  record.upgrade.from_version = own_version();
  record.upgrade.binary = binary_;
  record.upgrade.executable = executable_;
  if (threads_) record.config.threads = *threads_;
  record.upgrade.image = image_.get();
  record.upgrade.former = former_.get();
  record.upgrade.silent_since_ns = silent_since_ns_;
  record.upgrade.count = count_;
  for (const Request& request : requests_) record.further.push_back(request.what);
  if (record.further.empty()) return;
  record.upgrade.request = record.further.front();
  record.further.pop_front();
}

void Upgrades::restore(const upgrade::Record& record, const std::optional<std::string>& failure) {
  busy_ = true;
  binary_ = record.upgrade.binary;
  image_.reset(record.upgrade.image);
  former_.reset(record.upgrade.former);
  silent_since_ns_ = record.upgrade.silent_since_ns;
  count_ = record.upgrade.count + (failure ? 0 : 1);
  requests_.push_back({record.upgrade.request, nullptr});
  for (const upgrade::RequestedUpgrade& further : record.further) requests_.push_back({further, nullptr});
  // By now this file may have been moved elsewhere, or a wrapper has executed another one.
  const std::string& path = failure ? record.upgrade.executable : binary_;
  if (!path.empty()) executable_ = path;
  if (failure) {
    outcome_ = fail(binary_ + " failed while it took over, and the former executable goes on: " + *failure);
  } else {
    outcome_ = Done{record.upgrade.from_version, own_version(), binary_, 0, 0};
  }
}

void Upgrades::end_silence() {
  if (outcome_ && *outcome_) (*outcome_)->silence_ms = (now_ns() - silent_since_ns_) / 1'000'000;
}

void Upgrades::conclude(std::uint64_t connections) {
  image_.reset();
  former_.reset();
  if (!outcome_) return;
  Result<Done> outcome = std::move(*outcome_);
  outcome_.reset();
  if (outcome) outcome->connections = connections;
  answer_first(outcome);
}

}  // namespace relayd
