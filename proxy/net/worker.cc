#include "proxy/net/worker.h"

#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <csignal>
#include <stdexcept>
#include <string>
#include <utility>

#include "proxy/net/watch.h"

namespace relayd::net {
namespace {

constexpr int kBatch = 256;                // events taken from the epoll set at once
constexpr unsigned kMostFullBatches = 64;  // one after the other, before the tick comes all the same
constexpr Duration kReportInterval{1000};

}  // namespace

Worker::Worker(unsigned number, PlaneShared& plane, int epoll)
    : number_(number),
      plane_(plane),
      began_(plane.began),
      epoll_(epoll >= 0 ? epoll : ::epoll_create1(EPOLL_CLOEXEC)),
      wake_(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)),
      pipes_(plane.descriptors, plane.max_descriptors),
      relay_(chunks_, small_chunks_, pipes_) {
  epoll_event event{};
  event.events = EPOLLIN | EPOLLET;
  event.data.u64 = kWakeKey;
  if (!epoll_ || !wake_ || ::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, wake_.get(), &event) != 0) {
    throw std::runtime_error("cannot make the epoll set of a worker: " + errno_text(errno));
  }
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
  {
    const std::lock_guard lock(mail_mutex_);
    mail_.push_back(std::move(command));
  }
  wake();
}

// The counter of an eventfd cannot fill up by ones in the life of a machine.
void Worker::wake() { ::eventfd_write(wake_.get(), 1); }

void Worker::stop() {
  if (!thread_.joinable()) {  // it was never started
    if (!std::exchange(stopping_, true)) close_everything();
    return;
  }
  {
    const std::lock_guard lock(mail_mutex_);
    stop_asked_ = true;
    halt_asked_ = false;
  }
  halt_changed_.notify_all();
  wake();
  thread_.join();
}

void Worker::run() {
  plane_.open.wait(false);
  // What was posted before there was a thread comes before what has happened meanwhile.
  take_mail();
  set_accepting(true);
  run_commands();
  while (!stopping_) {
    turn();
    if (halting_) stand_still();
  }
  commands_.clear();
  close_everything();
}

// One look at the epoll set, and then a share of everything that waits without an event.
void Worker::turn() {
  epoll_event events[kBatch];
  const int count = ::epoll_wait(epoll_.get(), events, kBatch, patience());
  ++turns_;
  time_ = monotonic_now();
  now_ = static_cast<Tick>((time_ - began_).count() / kMillisecondsPerTick);
  for (int i = 0; i < count; ++i) dispatch(events[i]);
  // Whoever was kept from working, by SIGSTOP or so, looks at what has come before it tells what has not.
  full_batches_ = count == kBatch ? full_batches_ + 1 : 0;
  const bool has_seen_all = count >= 0 && (count < kBatch || full_batches_ % kMostFullBatches == 0);
  if (ticking_ && time_ >= next_tick_ && has_seen_all) on_tick();
  run_queued();
  run_commands();
  if (room_made_) {
    room_made_ = false;
    resume_paused();
  }
  // Only now may slots be used again: no event of this batch can name them any more.
  for (const Index index : graveyard_) slab_.release(index);
  graveyard_.clear();
}

// How long epoll_wait may sleep, in ms; -1: until something happens.
int Worker::patience() const {
  const bool queued = !again_.empty() || !releasing_.empty() || !sweeps_.empty() || !listings_.empty();
  if (queued) return 0;
  if (!ticking_) return -1;
  return static_cast<int>(std::clamp<Duration::rep>((next_tick_ - monotonic_now()).count(), 0, 1000));
}

void Worker::dispatch(const epoll_event& event) {
  const std::uint64_t key = event.data.u64;
  if (key == kWakeKey) {
    take_mail();
    run_commands();  // now: who connected after a command was given is behind it in this batch
    return;
  }
  if (key & kListenerKey) {
    const auto slot = static_cast<Index>(key);
    (key & kProbeKey) == kProbeKey ? on_probe_event(slot, event.events) : accept_from(slot);
    return;
  }
  const auto index = static_cast<Index>(key >> 1);
  const auto side = static_cast<unsigned>(key & 1);
  if (index >= slab_.size()) return;
  const Connection& connection = slab_[index];
  if (connection.state == State::kFree || connection.state == State::kClosed || connection.fd[side] < 0)
    return;
  if (event_key(connection, index, side) != key) return;
  on_connection_event(index, side, event.events);
}

void Worker::on_connection_event(Index index, unsigned side, std::uint32_t events) {
  Connection& connection = slab_[index];
  std::uint16_t& flags = connection.side[side];
  if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) flags |= kReadReady;
  if (events & (EPOLLRDHUP | EPOLLHUP)) flags |= kHangup;
  if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR)) flags |= kWriteReady;
  if (events & EPOLLPRI) flags |= kUrgent;
  switch (connection.state) {
    case State::kGreeting:
      on_greeting_event(index, events);
      break;
    case State::kHeld:
      on_held_event(index, events);
      break;
    case State::kConnecting:
      on_connecting_event(index, side, events);
      break;
    case State::kIdle:
    case State::kGuessing:
    case State::kReading:
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
  if (connection.exchange != kNone || ((connection.flags & kUndecided) && decide(connection))) {
    relay_http(index);
    return;
  }
  const std::uint64_t bytes_in = connection.bytes_in;
  const std::uint64_t bytes_out = connection.bytes_out;
  Next next = relay_.run(connection);
  if (next == Next::kWait && (connection.flags & kNobodyBehind)) {
    end_behind(connection);
    next = relay_.run(connection);
  }
  note_traffic(service, connection, bytes_in, bytes_out);
  switch (next) {
    case Next::kWait:
      watch_for_room(connection, index);
      break;
    case Next::kAgain:
      watch_for_room(connection, index);
      run_again(index);
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
    default:  // of HTTP
      break;
  }
}

void Worker::run_again(Index index) {
  Connection& connection = slab_[index];
  if (connection.flags & kQueuedAgain) return;
  connection.flags |= kQueuedAgain;
  again_.push_back(index);
}

// `bytes_in`, `bytes_out`: as they were before.
void Worker::note_traffic(ServiceState& service, Connection& connection, std::uint64_t bytes_in,
                          std::uint64_t bytes_out) {
  if (connection.bytes_in == bytes_in && connection.bytes_out == bytes_out) return;
  add(service.counters->bytes_in, connection.bytes_in - bytes_in);
  add(service.counters->bytes_out, connection.bytes_out - bytes_out);
  connection.active = now_;
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

void Worker::take_mail() {
  const std::lock_guard lock(mail_mutex_);
  for (auto& command : mail_) commands_.push_back(std::move(command));
  mail_.clear();
  stopping_ = stop_asked_;
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

void Worker::want_tick() {
  if (ticking_) return;
  ticking_ = true;
  next_tick_ = time_ + kTickInterval;
}

void Worker::on_tick() {
  ticking_ = false;  // until somebody wants the next one
  bool more = tick_leaving();
  for (const auto& service : services_) {
    if (service != nullptr && tick_service(*service)) more = true;
  }
  if (tick_spreads()) more = true;
  if (probe_failed()) more = true;
  resume_paused();
  if (watch_missing()) more = true;
  for (const auto& service : services_) more = more || (service != nullptr && service->paused);
  if (more) want_tick();
}

// Edge-triggered and never taken out again. Room to send is not asked for while there is some, which would be
// told at once and at every connection: watch_for_room() asks where a send falls short.
bool Worker::watch(Index index, unsigned side) {
  Connection& connection = slab_[index];
  if (connection.side[side] & kWatched) return true;
  if (!set_watch(connection, index, side, EPOLL_CTL_ADD, !(connection.side[side] & kWriteReady))) {
    report_shortage(service_of(connection),
                    "cannot watch a connection: raise fs.epoll.max_user_watches or free memory", errno);
    return false;
  }
  connection.side[side] |= kWatched;
  return true;
}

// A change looks at the socket anew, so that no edge is lost between the failed send and now.
void Worker::watch_for_room(Connection& connection, Index index) {
  for (const unsigned side : {kClient, kBackend}) {
    if ((connection.side[side] & (kWatched | kWatchedForRoom | kWriteReady)) != kWatched) continue;
    if (connection.fd[side] >= 0) set_watch(connection, index, side, EPOLL_CTL_MOD, true);
  }
}

bool Worker::set_watch(Connection& connection, Index index, unsigned side, int operation, bool for_room) {
  epoll_event event{};
  event.events = kWatchedEvents | (for_room ? EPOLLOUT : 0U);
  event.data.u64 = event_key(connection, index, side);
  if (::epoll_ctl(epoll_.get(), operation, connection.fd[side], &event) != 0) return false;
  if (for_room) connection.side[side] |= kWatchedForRoom;
  return true;
}

void Worker::watch_listener(Index slot, bool on) {
  ListenerSlot& listener = listeners_[slot];
  if (listener.fd < 0 || listener.watched == on || (on && !accepts_)) return;
  epoll_event event{};
  // Level-triggered: taking it out and in again loses nothing. One waiting worker is woken, not all.
  event.events = EPOLLIN | EPOLLEXCLUSIVE;
  event.data.u64 = kListenerKey | slot;
  if (::epoll_ctl(epoll_.get(), on ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, listener.fd, &event) != 0 && on) {
    report_shortage(*services_[listener.service],
                    "cannot watch a listener: raise fs.epoll.max_user_watches or free memory", errno);
    want_tick();  // which tries again
    return;
  }
  listener.watched = on;
}

void Worker::report_shortage(const ServiceState& service, const char* what, int error) {
  if (quiet_until_ && time_ < *quiet_until_) return;
  quiet_until_ = time_ + kReportInterval;
  if (error == 0) {
    log::warn(what, {{"service", service.settings.name}, {"worker", number_}});
  } else {
    log::warn(what, {{"service", service.settings.name}, {"error", errno_text(error)}, {"worker", number_}});
  }
}

}  // namespace relayd::net
