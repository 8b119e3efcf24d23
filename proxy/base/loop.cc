#include "proxy/base/loop.h"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace relayd {
namespace {

[[noreturn]] void throw_uv(const char* what, int status) {
  char text[128];
  uv_strerror_r(status, text, sizeof text);
  throw std::runtime_error(std::string(what) + ": " + text);
}

// Detaches the struct from its wrapper and lets libuv free it when it no longer needs it.
template <typename Handle>
void close_and_free(Handle* handle) {
  handle->callback = nullptr;
  uv_close(reinterpret_cast<uv_handle_t*>(&handle->uv),
           [](uv_handle_t* h) { delete static_cast<Handle*>(h->data); });
}

}  // namespace

Loop::Loop() {
  if (const int status = uv_loop_init(&loop_); status != 0) throw_uv("cannot make an event loop", status);
}

bool Loop::close() {
  if (closed_) return true;
  while (uv_loop_close(&loop_) == UV_EBUSY) {
    if (uv_run(&loop_, UV_RUN_NOWAIT) == 0) {
      if (uv_loop_close(&loop_) == 0) break;
      return false;
    }
    bool closing = false;
    uv_walk(
        &loop_, [](uv_handle_t* h, void* arg) { *static_cast<bool*>(arg) |= uv_is_closing(h) != 0; },
        &closing);
    if (!closing) return false;
  }
  closed_ = true;
  return true;
}

Loop::~Loop() { close(); }

struct Timer::Handle {
  uv_timer_t uv{};
  std::function<void()> callback;
};

Timer::Timer(Loop& loop) : handle_(new Handle) {
  uv_timer_init(loop.get(), &handle_->uv);  // cannot fail (libuv docs)
  handle_->uv.data = handle_;
}

Timer::~Timer() { close_and_free(handle_); }

void Timer::start(Duration delay, std::function<void()> callback, Duration repeat) {
  handle_->callback = std::move(callback);
  uv_update_time(handle_->uv.loop);
  uv_timer_start(
      &handle_->uv,
      [](uv_timer_t* uv) {
        auto* handle = static_cast<Handle*>(uv->data);
        if (handle->callback) {
          const auto call = handle->callback;  // a copy: the callback may restart or destroy the timer
          call();
        }
      },
      static_cast<std::uint64_t>(std::max<Duration::rep>(delay.count(), 0)),
      static_cast<std::uint64_t>(repeat.count()));
}

void Timer::stop() { uv_timer_stop(&handle_->uv); }

bool Timer::active() const { return uv_is_active(reinterpret_cast<const uv_handle_t*>(&handle_->uv)) != 0; }

struct Poll::Handle {
  uv_poll_t uv{};
  std::function<void(int)> callback;
};

Result<std::unique_ptr<Poll>> Poll::create(Loop& loop, int fd, int events,
                                           std::function<void(int)> callback) {
  auto handle = std::make_unique<Handle>();
  if (const int status = uv_poll_init(loop.get(), &handle->uv, fd); status != 0) {
    return std::unexpected(errno_error("cannot watch a descriptor", -status));
  }
  handle->uv.data = handle.get();
  handle->callback = std::move(callback);
  std::unique_ptr<Poll> poll(new Poll(handle.release()));
  poll->set_events(events);
  return poll;
}

Poll::~Poll() { close_and_free(handle_); }

void Poll::set_events(int events) {
  uv_poll_start(&handle_->uv, events, [](uv_poll_t* uv, int status, int fired) {
    auto* handle = static_cast<Handle*>(uv->data);
    if (handle->callback) {
      const auto call = handle->callback;
      call(status < 0 ? status : fired);
    }
  });
}

void Poll::stop() { uv_poll_stop(&handle_->uv); }

struct Async::Handle {
  uv_async_t uv{};
  std::function<void()> callback;
};

Async::Async(Loop& loop, std::function<void()> callback) {
  auto handle = std::make_unique<Handle>();
  const int status = uv_async_init(loop.get(), &handle->uv, [](uv_async_t* uv) {
    auto* self = static_cast<Handle*>(uv->data);
    if (self->callback) {
      const auto call = self->callback;
      call();
    }
  });
  if (status != 0) throw_uv("cannot make a wake-up handle", status);
  handle->uv.data = handle.get();
  handle->callback = std::move(callback);
  handle_ = handle.release();
}

Async::~Async() { close_and_free(handle_); }

void Async::send() { uv_async_send(&handle_->uv); }

struct Signal::Handle {
  uv_signal_t uv{};
  std::function<void()> callback;
};

Signal::Signal(Loop& loop, int signal, std::function<void()> callback) {
  auto handle = std::make_unique<Handle>();
  if (const int status = uv_signal_init(loop.get(), &handle->uv); status != 0)
    throw_uv("cannot watch signals", status);
  handle->uv.data = handle.get();
  handle->callback = std::move(callback);
  handle_ = handle.release();
  const int status = uv_signal_start(
      &handle_->uv,
      [](uv_signal_t* uv, int) {
        auto* self = static_cast<Handle*>(uv->data);
        if (self->callback) {
          const auto call = self->callback;
          call();
        }
      },
      signal);
  if (status != 0) {
    close_and_free(handle_);
    throw_uv("cannot watch a signal", status);
  }
}

Signal::~Signal() { close_and_free(handle_); }

}  // namespace relayd
