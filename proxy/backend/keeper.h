#pragma once

#include <sys/types.h>

#include <cstddef>
#include <memory>
#include <span>

#include "proxy/backend/record.h"
#include "proxy/base/descriptor.h"
#include "proxy/base/error.h"

namespace relayd::backend {

// A tiny process of relayd's own that kills every backend's process group when relayd is gone, whatever ended
// it (kill -9 too). PR_SET_PDEATHSIG reaches a direct child alone; the keeper reaches a Gunicorn's workers as
// well. It holds one end of a socket pair, is told of groups as they come and go, and acts when relayd's end
// closes.
class Keeper {
 public:
  // It has room for this many groups: far above what one machine runs. More are not guarded.
  static constexpr std::size_t kMaxGroups = 8192;

  // Forks it. Call before threads exist. It ignores terminal and stop signals and has its own session.
  static Result<Keeper> start();
  Keeper(Keeper&&) noexcept;
  Keeper& operator=(Keeper&&) noexcept;
  ~Keeper();  // the keeper ends, and kills what is still registered

  // For an upgrade of relayd, which the keeper does not notice; adopted by one image at a time.
  KeeperRecord save() const { return {pid_, channel_.get(), pidfd_.get()}; }
  static Keeper adopt(const KeeperRecord& record);

  pid_t pid() const { return pid_; }
  // The descriptor over which a child, between fork and exec, registers its own group, so that no moment is
  // uncovered.
  int channel() const { return channel_.get(); }
  // Async-signal-safe: for the child side of a spawn. False with errno on failure.
  static bool register_group(int channel, pid_t group);
  // To be told while the group's leader is at most a zombie, not yet reaped: from then on the number may be
  // anybody's.
  static void forget_group(int channel, pid_t group);
  void forget_group(pid_t group) { forget_group(channel(), group); }
  // One datagram of the channel. The keeper of an older release, which an upgrade leaves as it is, reads it
  // too: it stays what it is.
  struct Message {
    bool add;  // false: forget
    pid_t group;
  };

  // True where the keeper process itself has ended (killed by the OOM killer, or by hand): nothing can be
  // spawned then.
  bool dead() const;
  // Readable once it is dead; the Keeper's own.
  int pidfd() const { return pidfd_.get(); }
  // Starts another in its place and tells it of `groups`. Main thread; other threads may exist. On failure it
  // stays dead.
  Result<void> restart(std::span<const pid_t> groups);

 private:
  Keeper(pid_t pid, Descriptor channel, Descriptor pidfd)
      : pid_(pid), channel_(std::move(channel)), pidfd_(std::move(pidfd)) {}
  void end();

  pid_t pid_ = -1;
  Descriptor channel_;
  Descriptor pidfd_;
};

}  // namespace relayd::backend
