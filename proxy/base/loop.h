#pragma once

#include <uv.h>

#include <functional>
#include <memory>

#include "proxy/base/error.h"
#include "proxy/base/time.h"

// Thin owners of libuv handles. Each keeps its C struct on the heap and frees it in libuv's close callback,
// so that the wrapper may die at any time, also inside its own callback; after a callback no wrapper touches
// itself. Wrappers do not move. All but Async::send belong to the loop's thread. A wrapper must die before
// its Loop's last run().
namespace relayd {

class Loop {
 public:
  Loop();   // throws std::runtime_error: loops are made while starting
  ~Loop();  // runs the loop until close callbacks are done; a handle still open is a bug and is reported by
            // close()
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  uv_loop_t* get() { return &loop_; }
  void run() { uv_run(&loop_, UV_RUN_DEFAULT); }
  void run_once() { uv_run(&loop_, UV_RUN_ONCE); }
  void run_nowait() { uv_run(&loop_, UV_RUN_NOWAIT); }
  void stop() { uv_stop(&loop_); }
  // Runs pending close callbacks and closes the loop. False where a handle is still open (a leak): tests
  // assert true.
  bool close();

 private:
  uv_loop_t loop_{};
  bool closed_ = false;
};

class Timer {
 public:
  explicit Timer(Loop& loop);
  ~Timer();
  Timer(const Timer&) = delete;
  Timer& operator=(const Timer&) = delete;
  // (Re)arms it. `repeat` zero: once. The delay counts from now, not from the loop's cached time.
  void start(Duration delay, std::function<void()> callback, Duration repeat = Duration::zero());
  void stop();
  bool active() const;

 private:
  struct Handle;
  Handle* handle_;
};

// Readiness of one descriptor, which it does not own and which must stay open until the wrapper dies or
// stop().
class Poll {
 public:
  // `events` of UV_READABLE | UV_WRITABLE | UV_DISCONNECT. The callback gets the events, or a negative libuv
  // status.
  static Result<std::unique_ptr<Poll>> create(Loop& loop, int fd, int events,
                                              std::function<void(int)> callback);
  ~Poll();
  Poll(const Poll&) = delete;
  Poll& operator=(const Poll&) = delete;
  void set_events(int events);
  void stop();

 private:
  struct Handle;
  explicit Poll(Handle* handle) : handle_(handle) {}
  Handle* handle_;
};

// Wakes the loop from any thread; sends before the callback runs may be merged into one.
class Async {
 public:
  Async(Loop& loop, std::function<void()> callback);  // throws std::runtime_error
  ~Async();
  Async(const Async&) = delete;
  Async& operator=(const Async&) = delete;
  void send();

 private:
  struct Handle;
  Handle* handle_;
};

class Signal {
 public:
  Signal(Loop& loop, int signal, std::function<void()> callback);  // throws std::runtime_error
  ~Signal();
  Signal(const Signal&) = delete;
  Signal& operator=(const Signal&) = delete;

 private:
  struct Handle;
  Handle* handle_;
};

}  // namespace relayd
