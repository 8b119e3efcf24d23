#pragma once

#include <uv.h>

#include <functional>

#include "proxy/base/loop.h"

namespace relayd::net {

// Runs its callback once per turn of the loop, and keeps the loop from blocking, while started. The C struct
// is freed by libuv's close callback, as with the wrappers of base/loop.h. (A zero timer would not do:
// libuv 1.44 runs a timer that its own callback restarts again and again, without polling in between.)
class Idle {
 public:
  Idle(Loop& loop, std::function<void()> callback) : handle_(new Handle{{}, std::move(callback)}) {
    uv_idle_init(loop.get(), &handle_->uv);  // cannot fail (libuv docs)
    handle_->uv.data = handle_;
  }
  ~Idle() {
    handle_->callback = nullptr;
    uv_close(reinterpret_cast<uv_handle_t*>(&handle_->uv),
             [](uv_handle_t* handle) { delete static_cast<Handle*>(handle->data); });
  }
  Idle(const Idle&) = delete;
  Idle& operator=(const Idle&) = delete;

  void start() {
    uv_idle_start(&handle_->uv, [](uv_idle_t* uv) {
      const auto callback = static_cast<Handle*>(uv->data)->callback;
      if (callback) callback();
    });
  }
  void stop() { uv_idle_stop(&handle_->uv); }

 private:
  struct Handle {
    uv_idle_t uv;
    std::function<void()> callback;
  };
  Handle* handle_;
};

}  // namespace relayd::net
