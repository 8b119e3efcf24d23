#include "proxy/net/worker.h"

#include <pthread.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <cerrno>
#include <csignal>
#include <stdexcept>
#include <string>

namespace relayd::net {
namespace {

constexpr int kBatch = 256;  // events taken from the epoll set at once
constexpr int kRounds = 16;  // batches in one turn of the loop, before timers and mail get theirs
constexpr Duration kTickInterval{50};
constexpr std::uint64_t kReportInterval = 1000;  // ms

// What an event carries: which connection, which side, and enough to know an event of a socket that is gone.
// A closed socket leaves the epoll set only when its last copy is closed, and a child between fork and exec
// holds copies.
//   63 listener | 62..57 attempt (backend side) | 56..33 arrival | 32..1 index | 0 side
constexpr std::uint64_t kListenerBit = std::uint64_t{1} << 63;
std::uint64_t event_key(const Connection& connection, Index index, unsigned side) {
  const std::uint64_t attempt = side == kBackend ? connection.attempts & 0x3fU : 0;
  return attempt << 57 | (connection.id & 0xffffff) << 33 | std::uint64_t{index} << 1 | side;
}

}  // namespace

Worker::Worker(unsigned number, PlaneShared& plane)
    : number_(number), plane_(plane), epoll_(::epoll_create1(EPOLL_CLOEXEC)), relay_(chunks_) {
  if (!epoll_) throw std::runtime_error("cannot make the epoll set of a worker: " + errno_text(errno));
  auto poll = Poll::create(loop_, epoll_.get(), UV_READABLE, [this](int) { on_ready(); });
  if (!poll) throw std::runtime_error(poll.error().message);
  poll_ = std::move(*poll);
  mailbox_ = std::make_unique<Async>(loop_, [this] { on_mail(); });
  ticker_ = std::make_unique<Timer>(loop_);
  idle_ = std::make_unique<Idle>(loop_, [this] { on_idle(); });
  began_ = uv_now(loop_.get());
}

Worker::~Worker() { stop(); }

void Worker::start() {
  sigset_t all;
  sigset_t before;
  sigfillset(&all);
  ::pthread_sigmask(SIG_SETMASK, &all, &before);  // the thread inherits it: signals are the main thread's
  try {
    thread_ = std::thread([this] { run(); });
  } catch (...) {
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    throw;
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  ::pthread_setname_np(thread_.native_handle(), ("relayd-w" + std::to_string(number_)).c_str());
}

void Worker::post(std::function<void(Worker&)> command) {
  const std::lock_guard lock(mail_mutex_);
  mail_.push_back(std::move(command));
  if (mailbox_) mailbox_->send();
}

void Worker::stop() {
  if (!thread_.joinable()) return;
  {
    const std::lock_guard lock(mail_mutex_);
    stop_asked_ = true;
    mailbox_->send();
  }
  thread_.join();
}

void Worker::run() {
  loop_.run();
  loop_.close();
}

void Worker::begin_turn() { now_ = static_cast<Tick>((uv_now(loop_.get()) - began_) / kMillisecondsPerTick); }

void Worker::end_turn() {
  if (room_made_) {
    room_made_ = false;
    resume_paused();
  }
  bury();
  const bool idling = work_queued();
  if (idling == idling_) return;
  idling_ = idling;
  if (idling) {
    idle_->start();
  } else {
    idle_->stop();
  }
}

bool Worker::work_queued() const {
  return !again_.empty() || !releasing_.empty() || !sweeps_.empty() || !listings_.empty();
}

// Only now may the slots be used again: no event of this batch can name them any more.
void Worker::bury() {
  for (const Index index : graveyard_) slab_.release(index);
  graveyard_.clear();
}

void Worker::on_ready() {
  begin_turn();
  epoll_event events[kBatch];
  for (int i = 0; i < kRounds; ++i) {
    ++round_;
    accepted_ = false;
    const int count = ::epoll_wait(epoll_.get(), events, kBatch, 0);
    for (int k = 0; k < count; ++k) dispatch(events[k]);
    bury();
    // After an accept another look is worth its price: the sockets just registered have something to tell.
    if (count < kBatch && !accepted_) break;
  }
  end_turn();
}

void Worker::dispatch(const epoll_event& event) {
  const std::uint64_t key = event.data.u64;
  if (key & kListenerBit) {
    accept_from(static_cast<Index>(key));
    return;
  }
  const auto index = static_cast<Index>(key >> 1);
  const auto side = static_cast<unsigned>(key & 1);
  const Connection& connection = slab_[index];
  if (connection.state == State::kFree || connection.state == State::kClosed || connection.fd[side] < 0)
    return;
  if (event_key(connection, index, side) != key) return;
  on_connection_event(index, side, event.events);
}

void Worker::on_connection_event(Index index, unsigned side, std::uint32_t events) {
  Connection& connection = slab_[index];
  std::uint8_t& flags = connection.side[side];
  if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) flags |= kReadReady;
  if (events & (EPOLLRDHUP | EPOLLHUP)) flags |= kHangup;
  if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) flags |= kWriteReady;
  if (events & EPOLLPRI) flags |= kUrgent;
  switch (connection.state) {
    case State::kHeld:
      on_held_event(index, events);
      break;
    case State::kConnecting:
      on_connecting_event(index, side, events);
      break;
    case State::kRelaying:
    case State::kLingering:
      if (events & EPOLLERR) flags |= kFailed;
      relay(index);
      break;
    case State::kResetting:
      if (events & EPOLLERR) close_connection(index);
      break;
    case State::kFree:
    case State::kClosed:
      break;
  }
}

void Worker::relay(Index index) {
  Connection& connection = slab_[index];
  ServiceState& service = service_of(connection);
  const std::uint64_t bytes_in = connection.bytes_in;
  const std::uint64_t bytes_out = connection.bytes_out;
  Next next = relay_.run(connection);
  if (next == Next::kWait && (connection.flags & kNobodyBehind)) {
    end_behind(connection);
    next = relay_.run(connection);
  }
  if (connection.bytes_in != bytes_in || connection.bytes_out != bytes_out) {
    add(service.counters->bytes_in, connection.bytes_in - bytes_in);
    add(service.counters->bytes_out, connection.bytes_out - bytes_out);
    connection.active = now_;
  }
  switch (next) {
    case Next::kWait:
      break;
    case Next::kAgain:
      if (connection.flags & kQueuedAgain) break;
      connection.flags |= kQueuedAgain;
      again_.push_back(index);
      break;
    case Next::kClose:
      close_connection(index);
      break;
    case Next::kReset:
      begin_reset(index);
      break;
    case Next::kLinger:
      begin_linger(index);
      break;
    case Next::kReconnect:
      ++connection.rescues;
      connect_failed(service, index, ECONNRESET);
      break;
  }
}

void Worker::on_idle() {
  begin_turn();
  run_queued();
  run_commands();
  end_turn();
}

void Worker::run_queued() {
  again_now_.swap(again_);
  for (const Index index : again_now_) {
    Connection& connection = slab_[index];
    if (!(connection.flags & kQueuedAgain)) continue;  // closed since; the slot may be another's
    connection.flags &= static_cast<std::uint8_t>(~kQueuedAgain);
    if (connection.state == State::kRelaying || connection.state == State::kLingering) relay(index);
  }
  again_now_.clear();
  std::vector<ServiceId> releasing;
  releasing.swap(releasing_);
  for (const ServiceId id : releasing) {
    ServiceState* service = find(id);
    if (service == nullptr) continue;
    service->release_queued = false;
    release(*service);
  }
  sweep_some();
  list_some();
}

void Worker::on_mail() {
  bool stop = false;
  {
    const std::lock_guard lock(mail_mutex_);
    for (auto& command : mail_) commands_.push_back(std::move(command));
    mail_.clear();
    stop = stop_asked_;
  }
  if (stop) {
    close_down();
    return;
  }
  begin_turn();
  run_commands();
  end_turn();
}

// A command waits until the clients that the one before it set free have their instances: a route that is
// given and taken away again has served those who waited for it.
void Worker::run_commands() {
  while (!commands_.empty() && releasing_.empty()) {
    const auto command = std::move(commands_.front());
    commands_.pop_front();
    command(*this);
  }
}

void Worker::close_down() {
  commands_.clear();
  close_everything();
  poll_.reset();
  ticker_.reset();
  idle_.reset();
  const std::lock_guard lock(mail_mutex_);
  mailbox_.reset();  // the loop has nothing left, and run() returns
}

void Worker::want_tick() {
  if (ticking_) return;
  ticking_ = true;
  ticker_->start(
      kTickInterval, [this] { on_tick(); }, kTickInterval);
}

void Worker::on_tick() {
  begin_turn();
  bool more = tick_leaving();
  for (const auto& service : services_) {
    if (service != nullptr && tick_service(*service)) more = true;
  }
  resume_paused();
  if (watch_missing()) more = true;
  for (const auto& service : services_) more = more || (service != nullptr && service->paused);
  end_turn();
  if (more) return;
  ticking_ = false;
  ticker_->stop();
}

bool Worker::watch(Index index, unsigned side) {
  Connection& connection = slab_[index];
  epoll_event event{};
  // EPOLLPRI only tells of urgent data, which makes recv stop short.
  event.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLPRI | EPOLLET;
  event.data.u64 = event_key(connection, index, side);
  if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, connection.fd[side], &event) != 0) {
    report_shortage(service_of(connection),
                    "cannot watch a connection: raise fs.epoll.max_user_watches or free memory", errno);
    return false;
  }
  if (side == kClient) connection.flags |= kClientWatched;
  return true;
}

void Worker::watch_listener(Index slot, bool on) {
  ListenerSlot& listener = listeners_[slot];
  if (listener.fd < 0 || listener.watched == on) return;
  epoll_event event{};
  event.events = EPOLLIN;  // level-triggered: taking it out and in again loses nothing
  event.data.u64 = kListenerBit | slot;
  if (::epoll_ctl(epoll_.get(), on ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, listener.fd, &event) != 0 && on) {
    report_shortage(*services_[listener.service],
                    "cannot watch a listener: raise fs.epoll.max_user_watches or free memory", errno);
    want_tick();  // which tries again
    return;
  }
  listener.watched = on;
}

void Worker::report_shortage(const ServiceState& service, const char* what, int error) {
  const std::uint64_t now = uv_now(loop_.get());
  if (reported_at_ != 0 && now - reported_at_ < kReportInterval) return;
  reported_at_ = now;
  log::warn(what, {{"service", service.settings.name}, {"error", errno_text(error)}, {"worker", number_}});
}

}  // namespace relayd::net
