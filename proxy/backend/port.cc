#include "proxy/backend/port.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <optional>
#include <set>

#include "proxy/base/address.h"
#include "proxy/base/descriptor.h"

namespace relayd::backend {
namespace {

constexpr PortRange kUsualEphemeral{32768,
                                    60999};  // the kernel's default (ip(7)), where /proc cannot be read
constexpr int kEphemeralTries = 64;

// What this process's instances have, bound yet or not. The main thread's alone.
std::set<std::uint16_t>& leased() {
  static std::set<std::uint16_t> ports;
  return ports;
}

// Binds every IPv4 address at once, so that an app may bind 127.0.0.1 or 0.0.0.0; without SO_REUSEADDR, since
// the app may not set it either. Port 0 lets the kernel choose. Returns the port, or nothing where it is
// taken.
std::optional<std::uint16_t> try_bind(std::uint16_t port) {
  const Descriptor socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) return std::nullopt;
  sockaddr_in in{};
  in.sin_family = AF_INET;
  in.sin_port = htons(port);
  in.sin_addr.s_addr = htonl(INADDR_ANY);
  if (::bind(socket.get(), reinterpret_cast<const sockaddr*>(&in), sizeof in) != 0) return std::nullopt;
  const auto bound = local_address(socket.get());
  if (!bound) return std::nullopt;
  return bound->port();
}

std::uint32_t random_number() {
  std::uint32_t value = 0;
  if (::getrandom(&value, sizeof value, GRND_NONBLOCK) != sizeof value)
    value = static_cast<std::uint32_t>(::getpid());
  return value;
}

PortRange ephemeral_range() {
  const Descriptor file(::open("/proc/sys/net/ipv4/ip_local_port_range", O_RDONLY | O_CLOEXEC));
  char text[64];
  const ssize_t got = file ? ::read(file.get(), text, sizeof text) : -1;
  if (got <= 0) return kUsualEphemeral;
  return parse_port_range(std::string_view(text, static_cast<std::size_t>(got))).value_or(kUsualEphemeral);
}

}  // namespace

Result<PortRange> parse_port_range(std::string_view text) {
  unsigned numbers[2] = {0, 0};
  const char* at = text.data();
  const char* const end = text.data() + text.size();
  for (unsigned& number : numbers) {
    while (at != end && (*at == ' ' || *at == '\t')) ++at;
    const auto [after, failure] = std::from_chars(at, end, number);
    if (failure != std::errc{} || number > 65535)
      return fail("'" + std::string(text) + "' is not a port range");
    at = after;
  }
  if (numbers[0] == 0 || numbers[0] > numbers[1])
    return fail("'" + std::string(text) + "' is not a port range");
  return PortRange{static_cast<std::uint16_t>(numbers[0]), static_cast<std::uint16_t>(numbers[1])};
}

std::vector<PortRange> ranges_outside(const PortRange& ephemeral) {
  constexpr std::uint16_t kFirst = 1024;
  std::vector<PortRange> ranges;
  if (ephemeral.last < 65535) {
    ranges.push_back(
        {std::max<std::uint16_t>(static_cast<std::uint16_t>(ephemeral.last + 1), kFirst), 65535});
  }
  if (ephemeral.first > kFirst) ranges.push_back({kFirst, static_cast<std::uint16_t>(ephemeral.first - 1)});
  return ranges;
}

Result<PortLease> PortLease::take() { return take_from(ranges_outside(ephemeral_range())); }

Result<PortLease> PortLease::take_from(const std::vector<PortRange>& ranges) {
  for (const PortRange& range : ranges) {
    const std::uint32_t size = 1U + range.last - range.first;
    const std::uint32_t start = random_number() % size;  // so that two relayds do not race for the same ones
    for (std::uint32_t i = 0; i < size; ++i) {
      const auto port = static_cast<std::uint16_t>(range.first + (start + i) % size);
      if (leased().contains(port) || !try_bind(port)) continue;
      leased().insert(port);
      return PortLease(port);
    }
  }
  for (int i = 0; i < kEphemeralTries; ++i) {
    const auto port = try_bind(0);
    if (!port) break;
    if (leased().insert(*port).second) return PortLease(*port);
  }
  return fail("no free TCP port is left on this machine for an instance: use 'address: socket'", EADDRINUSE);
}

PortLease PortLease::adopt(std::uint16_t port) {
  leased().insert(port);
  return PortLease(port);
}

void PortLease::reset() {
  if (port_ != 0) leased().erase(std::exchange(port_, 0));
}

}  // namespace relayd::backend
