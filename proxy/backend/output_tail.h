#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "proxy/base/descriptor.h"
#include "proxy/base/loop.h"

namespace relayd::backend {

// Reads what a process writes to a pipe: passes it on as it is, and keeps the end of it for messages.
class OutputTail {
 public:
  // Owns `pipe`, the reading end; none: there is only what restore() brings. `copy_to` (-1: nowhere) stays
  // the caller's; it is never waited for: while it takes nothing, the pipe is not read, so that the process
  // waits and not relayd.
  static Result<std::unique_ptr<OutputTail>> create(Loop& loop, Descriptor pipe, int copy_to);

  // What another image of relayd has kept of it; before anything else is called.
  void restore(std::string tail, std::string pending);
  int pipe() const { return pipe_.get(); }  // -1: every writer has closed it
  const std::string& kept() const { return tail_; }
  const std::string& pending() const { return pending_; }  // read, and not passed on yet

  // Reads what is in the pipe now (at most 256 KiB: a survivor may go on writing). For the end of the
  // process.
  void drain();
  // The last lines, at most 2 KiB; whole ones, unless a single one is longer. Control characters are
  // replaced.
  std::string text() const;

 private:
  OutputTail(Loop& loop, Descriptor pipe, int copy_to)
      : pipe_(std::move(pipe)), copy_to_(copy_to), again_(loop) {}
  bool read_some();
  void keep(std::string_view data);
  bool flush();
  void on_readable();
  void pause();

  Descriptor pipe_;
  int copy_to_;
  std::string tail_;     // at most twice what text() gives
  std::string pending_;  // read, not yet passed on
  std::unique_ptr<Poll> watch_;
  Timer again_;
};

}  // namespace relayd::backend
