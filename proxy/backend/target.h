#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "proxy/backend/instance.h"

// One address that somebody else runs, such as a container's, as an instance of a generation: nothing is
// started or ended, it is only checked. Where it is named by a host name, it is whatever that name stands for
// at the time:
//
//   looked up --> each address is checked --> those that are well take clients
//       ^                                                |
//       +------ its records expire, or a check fails ----+
//
// Addresses that the name no longer has are kept until one of the new ones is well, and the last known ones
// while it cannot be resolved.
namespace relayd::backend {

class Target final : public AnyInstance {
 public:
  // The target is entry `index` of the definition's list.
  Target(Context& context, std::shared_ptr<const Definition> definition, std::uint32_t generation,
         std::uint16_t index, InstanceEvents events);
  ~Target() override;

  Result<void> start() override;
  InstanceRecord save() const override;
  Result<void> resume(const InstanceRecord& record) override;
  // Ends the checks and reports `exited`: whoever runs it is not told.
  void stop() override;
  void kill() override { stop(); }
  bool alive() const override;

  pid_t pid() const override { return 0; }
  const SocketAddress& address() const override;
  std::vector<SocketAddress> addresses() const override;
  std::string target() const override;
  std::shared_ptr<const Descriptor> listening() const override { return nullptr; }
  std::string last_stderr() const override { return ""; }
  std::string last_check_error() const override;
  std::string status_text() const override;

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

// An instance of the definition's kind, not started: a Target where it names targets, else a process, which
// may get the `listening` socket of the one before it.
std::unique_ptr<AnyInstance> make_instance(Context& context, std::shared_ptr<const Definition> definition,
                                           std::uint32_t generation, std::uint16_t index,
                                           InstanceEvents events,
                                           std::shared_ptr<const Descriptor> listening = nullptr);

}  // namespace relayd::backend
