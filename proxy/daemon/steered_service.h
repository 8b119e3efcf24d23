#pragma once

#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "proxy/base/loop.h"
#include "proxy/daemon/orphaned_queues.h"
#include "proxy/net/data_plane.h"
#include "proxy/rollover/report.h"
#include "proxy/rollover/steering.h"
#include "proxy/steering/census.h"
#include "proxy/steering/listeners.h"
#include "proxy/steering/socket_list.h"
#include "proxy/steering/switch.h"
#include "proxy/upgrade/record.h"

namespace relayd {

// The one steering program of this relayd, attached when the first service asks for it.
class SteeringProgram {
 public:
  // Error: what is missing here; asked anew by every call.
  Result<void> attach();
  bool attached() const { return switch_ != nullptr; }
  // For an upgrade of relayd; adopt() owns the record's descriptors.
  steering::SwitchRecord save() const { return switch_->save(); }
  Result<void> adopt(const steering::SwitchRecord& record);
  // Once attached.
  steering::Switch& get() { return *switch_; }
  steering::SocketList& sockets() { return *sockets_; }

 private:
  std::unique_ptr<steering::Switch> switch_;
  std::optional<steering::SocketList> sockets_;
};

// Steers one service: knows its instances' listening sockets, keeps the kernel's table true, and counts what
// was steered. Duplicates of the sockets are kept until their processes have ended, so that whoever waits in
// a queue then is accepted by the data plane and forwarded.
class SteeredService : public rollover::Steering {
 public:
  using Happened = std::function<void(const rollover::Happening&)>;

  SteeredService(Loop& loop, SteeringProgram& program, net::DataPlane& data_plane, net::ServiceId id,
                 Happened happened);
  ~SteeredService() override;
  SteeredService(const SteeredService&) = delete;
  SteeredService& operator=(const SteeredService&) = delete;

  // Where its clients come in; Unix sockets among them are none of ours.
  void set_addresses(const std::vector<const net::Listener*>& listeners);

  Result<void> instance_ready(rollover::GenerationNumber generation, rollover::InstanceIndex instance,
                              pid_t group, const SocketAddress& address, config::Steering wanted) override;
  void steer(const std::vector<rollover::RouteEntry>& route) override;
  bool drain(rollover::GenerationNumber generation, int instance, std::function<void()> done) override;
  void instance_ended(rollover::GenerationNumber generation, rollover::InstanceIndex instance,
                      bool socket_stays) override;
  void stop() override;
  std::uint64_t connections(rollover::GenerationNumber generation, int instance) override;

  // For an upgrade of relayd. restore() is for one that is new, of an attached program where there was one;
  // it owns the descriptors, and leaves what the kernel does as it is. Drains are to be asked for again.
  upgrade::SteeredRecord save() const;
  void restore(const upgrade::SteeredRecord& record);

  // "off", "steered", "held", or "forwarded: " and why.
  std::string state() const;
  struct Connection {
    SocketAddress client;
    rollover::GenerationNumber generation = 0;
    rollover::InstanceIndex instance = 0;
    bool half_closed = false;
  };
  // Of one generation, or of all; at most `limit`.
  std::vector<Connection> list(std::optional<rollover::GenerationNumber> generation, std::size_t limit);

 private:
  using Key = std::pair<rollover::GenerationNumber, rollover::InstanceIndex>;
  struct Process {
    pid_t group = 0;  // 0: none, its socket waits for the next one
    SocketAddress address;
    std::vector<steering::FoundListener> listeners;  // empty: it has closed them, and is looked at again
  };
  struct Drain {
    rollover::GenerationNumber generation = 0;
    int instance = -1;
    steering::DrainCount count;
    TimePoint next_look{};
    std::function<void()> done;
  };
  void apply();
  Result<void> switch_to(const std::vector<int>& sockets);
  void cannot(const std::string& why, Key about);
  void warn(const std::string& what);
  void orphan(const SocketAddress& address, std::vector<steering::FoundListener> sockets);
  void tick();
  void arm();
  void look_at_drains();
  void watch_listeners();
  std::vector<steering::FoundListener> refresh(Process& process);
  void count_connections();
  std::vector<steering::SteeredConnection> steered_now();
  const std::pair<const Key, Process>* process_of(pid_t group) const;

  SteeringProgram& program_;
  net::DataPlane& data_plane_;
  const net::ServiceId id_;
  const Happened happened_;
  Timer timer_;
  bool timer_is_idle_ = false;  // at kIdlePace

  std::vector<SocketAddress> addresses_;  // steered
  std::vector<std::uint16_t> ports_;      // that ever were: what came through them may still stand
  std::optional<steering::Switch::Service> service_;
  std::map<Key, Process> processes_;
  std::vector<Key> route_;  // as the driver gave it
  bool asked_ = false;      // the newest instance wanted to be steered
  bool steered_ = false;    // new connections go past relayd
  bool stopped_ = false;
  std::string why_not_;    // as told last
  std::string warned_of_;  // the same
  std::list<Drain> drains_;
  OrphanedQueues orphans_;
  std::map<Key, std::uint64_t> counts_;
  TimePoint counts_good_until_{};
};

}  // namespace relayd
