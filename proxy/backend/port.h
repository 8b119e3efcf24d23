#pragma once

#include <cstdint>
#include <string_view>
#include <utility>
#include <vector>

#include "proxy/base/error.h"

namespace relayd::backend {

struct PortRange {
  std::uint16_t first = 0;
  std::uint16_t last = 0;
  bool operator==(const PortRange&) const = default;
};

// The text of /proc/sys/net/ipv4/ip_local_port_range: "32768\t60999\n".
Result<PortRange> parse_port_range(std::string_view text);

// The ports above 1023 that the kernel does not give to outgoing connections. The side above the ephemeral
// range comes first: hardly anything has a fixed port there, while below it lie the well-known ports of
// things that may start later.
std::vector<PortRange> ranges_outside(const PortRange& ephemeral);

// A TCP port that this process has promised to one instance; given back when it dies. Main thread only.
class PortLease {
 public:
  // A port that nobody is bound to now. The app binds it later, so somebody else can take it in between:
  // hence a port outside the ephemeral range, of which the kernel hands none to outgoing connections. relayd
  // itself makes thousands of those, and any of them could otherwise sit on the app's port when it comes to
  // bind. Where the range leaves no room, an ephemeral port has to do.
  static Result<PortLease> take();
  // The same, with the ranges to choose from given, in order of preference.
  static Result<PortLease> take_from(const std::vector<PortRange>& ranges);

  // One that another image of relayd has taken.
  static PortLease adopt(std::uint16_t port);

  PortLease() = default;
  PortLease(PortLease&& other) noexcept : port_(std::exchange(other.port_, 0)) {}
  PortLease& operator=(PortLease&& other) noexcept {
    if (this != &other) {
      reset();
      port_ = std::exchange(other.port_, 0);
    }
    return *this;
  }
  ~PortLease() { reset(); }
  std::uint16_t port() const { return port_; }  // 0: none
  void reset();

 private:
  explicit PortLease(std::uint16_t port) : port_(port) {}
  std::uint16_t port_ = 0;
};

}  // namespace relayd::backend
