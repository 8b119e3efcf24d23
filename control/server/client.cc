#include "control/server/client.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "control/protocol/json.h"
#include "proxy/base/log.h"

namespace relayd::control {
namespace {

constexpr std::size_t kReadSize = std::size_t{16} << 10;
constexpr Duration kLastWords{5000};  // for a client that is being closed to read why
constexpr int kReadsPerTurn = 8;      // so that one client does not keep the loop for itself

}  // namespace

Client::Client(Loop& loop, Descriptor fd, Peer peer, std::uint64_t id, const Limits& limits,
               Callbacks callbacks)
    : fd_(std::move(fd)),
      peer_(peer),
      id_(id),
      limits_(limits),
      callbacks_(std::move(callbacks)),
      half_message_(loop) {}

Result<std::unique_ptr<Client>> Client::create(Loop& loop, Descriptor fd, Peer peer, std::uint64_t id,
                                               const Limits& limits, Callbacks callbacks) {
  std::unique_ptr<Client> client(new Client(loop, std::move(fd), peer, id, limits, std::move(callbacks)));
  auto* self = client.get();
  auto poll =
      Poll::create(loop, self->fd_.get(), UV_READABLE, [self](int events) { self->on_ready(events); });
  if (!poll) return std::unexpected(poll.error());
  client->poll_ = std::move(*poll);
  return client;
}

Result<std::unique_ptr<Client>> Client::restore(Loop& loop, Descriptor fd, Peer peer, ClientRecord record,
                                                const Limits& limits, Callbacks callbacks) {
  auto created = create(loop, std::move(fd), peer, record.id, limits, std::move(callbacks));
  if (!created) return created;
  Client& client = **created;
  client.asleep_ = true;
  client.poll_->stop();
  client.watched_ = 0;
  client.input_ = std::move(record.input);
  client.output_ = std::move(record.output);
  client.lines_waiting_ = client.input_.find('\n') != std::string::npos;
  client.skipping_ = record.skipping;
  client.input_ended_ = record.input_ended || record.ending;
  client.ending_ = record.ending;
  client.following = std::move(record.following);
  client.next_token_ = record.next_token;
  for (RequestRecord& request : record.requests) {
    const auto parsed = parse_request(request.line);
    const std::size_t size = request.line.size();
    const bool added = client.outstanding_
                           .emplace(request.token, Outstanding{parsed ? parsed->id : parsed.error().id,
                                                               std::move(request.line)})
                           .second;
    if (added) client.outstanding_bytes_ += size;
    client.next_token_ = std::max(client.next_token_, request.token + 1);
  }
  return created;
}

ClientRecord Client::save() const {
  ClientRecord record;
  record.id = id_;
  record.fd = fd_.get();
  record.input = input_.substr(taken_);
  record.output = output_.substr(sent_);
  record.next_token = next_token_;
  for (const auto& [token, request] : outstanding_) record.requests.push_back({token, request.line});
  record.following = following;
  record.skipping = skipping_;
  record.input_ended = input_ended_;
  record.ending = ending_;
  return record;
}

void Client::wake() {
  asleep_ = false;
  if (dead_) return;
  if (ending_) set_last_words();
  flush();
}

void Client::read_on() {
  if (!dead_) take_lines();
}

void Client::on_ready(int events) {
  if (dead_) return;
  if (events < 0) return die();
  if ((events & UV_WRITABLE) != 0) flush();
  if (!dead_ && (events & UV_READABLE) != 0 && !input_ended_) receive();
  if (!dead_) take_lines();
}

void Client::receive() {
  char bytes[kReadSize];
  for (int reads = 0; reads < kReadsPerTurn && !dead_; ++reads) {
    const ssize_t count = ::recv(fd_.get(), bytes, sizeof bytes, MSG_DONTWAIT);
    if (count > 0) {
      input_.append(bytes, static_cast<std::size_t>(count));
      take_lines();
      if (lines_waiting_) return;
    } else if (count == 0) {
      return at_end_of_input();
    } else if (errno != EINTR) {
      if (errno != EAGAIN) die();
      return;
    }
  }
}

// A client may shut down its sending side and wait for its answers ("echo … | nc -N"); one that is gone, or
// only follows, is done.
void Client::at_end_of_input() {
  input_ended_ = true;
  half_message_.stop();
  pollfd state{fd_.get(), 0, 0};
  const bool gone = ::poll(&state, 1, 0) == 1 && (state.revents & (POLLHUP | POLLERR)) != 0;
  if (gone || finished()) return die();
  watch();
}

void Client::take_lines() {
  if (taking_lines_) return;
  taking_lines_ = true;
  while (!dead_ && output_.size() - sent_ <= limits_.unsent_pause) {
    const std::size_t end = input_.find('\n', taken_);
    if (end == std::string::npos) break;
    std::string_view line(input_.data() + taken_, end - taken_);
    taken_ = end + 1;
    half_message_.stop();
    if (std::exchange(skipping_, false)) continue;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.size() > limits_.message) {
      complain("a message of more than " + std::to_string(limits_.message) + " bytes");
    } else if (!line.empty()) {
      callbacks_.line(*this, line);
    }
  }
  taking_lines_ = false;
  if (dead_) return;
  input_.erase(0, std::exchange(taken_, 0));
  lines_waiting_ = input_.find('\n') != std::string::npos;
  const bool partial = !input_.empty() && !lines_waiting_;
  if (partial && (skipping_ || input_.size() > limits_.message)) {
    if (!std::exchange(skipping_, true)) {
      complain("a message of more than " + std::to_string(limits_.message) + " bytes");
    }
    input_.clear();
  }
  if ((partial || skipping_) && !half_message_.active() && !input_ended_) {
    half_message_.start(limits_.half_message, [this] {
      complain("half a message, and no end of it for " + std::to_string(limits_.half_message.count()) +
               " ms: closed");
      end_after_flush();
    });
  }
  if (input_ended_ && finished()) return die();
  watch();
}

void Client::complain(std::string_view why) {
  send(write_failure("null", {ErrorCode::kInvalidRequest, std::string(why)}));
}

void Client::send(std::string_view line) {
  if (dead_) return;
  if (output_.size() - sent_ > limits_.unsent) {
    log::warn("control: client dropped: it does not read what it asked for",
              {{"client_pid", peer_.pid},
               {"uid", peer_.uid},
               {"unsent_bytes", std::uint64_t{output_.size() - sent_}}});
    return die();
  }
  if (sent_ > 0 && sent_ >= output_.size() / 2) {
    output_.erase(0, sent_);
    sent_ = 0;
  }
  output_.append(line);
  flush();
}

void Client::flush() {
  if (asleep_) return;
  while (!dead_ && sent_ < output_.size()) {
    const ssize_t count =
        ::send(fd_.get(), output_.data() + sent_, output_.size() - sent_, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (count >= 0) {
      sent_ += static_cast<std::size_t>(count);
    } else if (errno == EAGAIN) {
      return watch();
    } else if (errno != EINTR) {
      return die();
    }
  }
  if (dead_) return;
  output_.clear();
  sent_ = 0;
  if (output_.capacity() > limits_.unsent_pause) output_.shrink_to_fit();
  watch();
}

void Client::end_after_flush() {
  following.reset();
  forget_requests();
  input_.clear();
  taken_ = 0;
  lines_waiting_ = false;
  input_ended_ = true;
  ending_ = true;
  if (!unsent()) return die();
  set_last_words();
  watch();
}

void Client::set_last_words() {
  half_message_.start(kLastWords, [this] { die(); });
}

std::uint64_t Client::begin(std::string request_id, std::string line) {
  outstanding_bytes_ += line.size();
  outstanding_.emplace(next_token_, Outstanding{std::move(request_id), std::move(line)});
  return next_token_++;
}

void Client::forget_requests() {
  outstanding_.clear();
  outstanding_bytes_ = 0;
}

void Client::answer(std::uint64_t token, std::string_view line) {
  const auto request = outstanding_.find(token);
  if (request == outstanding_.end()) return;
  const bool wanted = !request->second.id.empty();
  outstanding_bytes_ -= request->second.line.size();
  outstanding_.erase(request);
  if (wanted) send(line);
  if (input_ended_ && finished()) die();
}

bool Client::finished() const { return outstanding_.empty() && !unsent() && !lines_waiting_; }

void Client::watch() {
  if (dead_ || asleep_ || !poll_) return;
  const bool reading = !input_ended_ && !lines_waiting_ && output_.size() - sent_ <= limits_.unsent_pause;
  // Waiting lines need a wake-up of their own: what kept them may have left without one.
  const int events = (unsent() || lines_waiting_ ? UV_WRITABLE : 0) | (reading ? UV_READABLE : 0);
  if (std::exchange(watched_, events) == events) return;
  if (events == 0) {
    poll_->stop();
  } else {
    poll_->set_events(events);
  }
}

void Client::die() {
  if (std::exchange(dead_, true)) return;
  if (poll_) poll_->stop();
  half_message_.stop();
  forget_requests();
  following.reset();
  callbacks_.died(*this);
}

}  // namespace relayd::control
