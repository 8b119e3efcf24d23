#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <span>
#include <vector>

#include "proxy/base/address.h"
#include "proxy/base/descriptor.h"
#include "proxy/base/error.h"
#include "proxy/steering/program.h"
#include "proxy/steering/record.h"

namespace relayd::steering {

// Takes new connections of public addresses straight to sockets on which somebody else listens: an sk_lookup
// program attached to this network namespace. It lives as long as a descriptor of its link, so that nothing
// stays behind whatever ends the process. Belongs to one thread.
class Switch {
 public:
  using Service = std::uint32_t;

  // To the calling thread's network namespace. Linux 5.9; CAP_NET_ADMIN, and CAP_BPF or CAP_SYS_ADMIN. The
  // error names what is missing.
  static Result<std::unique_ptr<Switch>> attach();
  ~Switch();
  Switch(const Switch&) = delete;
  Switch& operator=(const Switch&) = delete;

  // A service without an address, steered to nobody. ENOSPC: there are kServices already.
  Result<Service> add_service();
  // Its addresses go too.
  void remove_service(Service service);

  // New connections to this IPv4 or IPv6 address (0.0.0.0 and :: mean every one of their family that is not
  // added by itself) go where the service is steered. One of another service becomes this one's.
  Result<void> add_address(Service service, const SocketAddress& address);
  // Another service's stays.
  void remove_address(Service service, const SocketAddress& address);

  // From now on new connections go to one of these listening TCP sockets, taken at random: IPv6 to those that
  // take IPv6, IPv4 to those that take IPv4. All at once: no connection sees a mixture. Where there is none
  // for a connection, it goes to whoever listens on its address, as without steering. The sockets are not
  // owned, and may be closed any time: the kernel takes out those that nobody has open any more. On an error
  // nothing has changed.
  Result<void> steer(Service service, std::span<const int> sockets);

  // Until accept_again(), whoever connects to this address is refused, although a duplicate keeps a listening
  // socket there alive. Not for an address of a service.
  void refuse(const SocketAddress& address);
  void accept_again(const SocketAddress& address);

  // For another image of relayd, which goes on with the same program and its maps, without a gap. adopt()
  // owns the record's descriptors; the error: the maps are of another layout, or cannot be mapped.
  SwitchRecord save() const;
  static Result<std::unique_ptr<Switch>> adopt(const SwitchRecord& record);

  static constexpr std::uint32_t kServices = steering::kServices;
  static constexpr std::uint32_t kAddresses = 4096;
  static constexpr std::uint32_t kSockets = 65536;  // what SocketRow can name

 private:
  struct Maps {
    Descriptor addresses, services, sockets;
  };
  Switch(Maps maps, Descriptor link, std::uint64_t* rows);

  struct Row {
    bool used = false;
    SocketRow sockets;
    std::uint32_t size() const { return sockets.ipv4_only + sockets.both + sockets.ipv6_only; }
  };
  // The first of `count` neighbouring places that nobody uses; kSockets where there are none.
  std::uint32_t find_places(std::uint32_t count) const;
  void free_places(std::uint32_t first, std::uint32_t count);
  void publish(Service service, const SocketRow& row);

  const Maps maps_;
  const Descriptor link_;
  std::uint64_t* const rows_;  // the map `services`, mapped

  std::vector<Row> services_;
  std::deque<Service> free_services_;  // the longest free one first
  std::vector<bool> places_;           // of `sockets`: in use
  std::uint32_t next_place_ = 0;
  std::vector<std::pair<AddressKey, Service>> addresses_;
};

}  // namespace relayd::steering
