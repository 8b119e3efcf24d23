#pragma once

#include <linux/bpf.h>

#include <cstdint>
#include <vector>

// What the kernel runs for each SYN for which it looks for a listening socket, and the shapes of the maps
// that it reads.
namespace relayd::steering {

// Key of the map `addresses`: a public address. All bytes of `address` count; IPv4 takes the first four.
struct AddressKey {
  std::uint32_t family = 0;  // AF_INET, AF_INET6
  std::uint32_t port = 0;    // in host order, as sk_lookup tells it
  std::uint8_t address[16] = {};
};

// A service's sockets stand side by side in the map `sockets`: those that take IPv4 alone, those that take
// both, those that take IPv6 alone. So each family has one unbroken row, and one store of eight bytes
// switches both.
struct SocketRow {
  std::uint16_t base = 0;
  std::uint16_t ipv4_only = 0;
  std::uint16_t both = 0;
  std::uint16_t ipv6_only = 0;

  std::uint64_t packed() const {
    return base | std::uint64_t{ipv4_only} << 16 | std::uint64_t{both} << 32 | std::uint64_t{ipv6_only} << 48;
  }
};

// addresses: AddressKey -> u32, the service, or kRefused. An exact address goes before the wildcard of its
// family. services:  u32 -> u64, SocketRow::packed(). sockets:   u32 -> listening socket (SOCKMAP). One of
// the service's sockets for the family of the connection is taken at random. A connection for which there is
// none, or which the socket cannot take, goes where it would have gone without the program.
inline constexpr std::uint32_t kServices = 512;  // a page of the map
// Whoever connects to the address gets a reset, as if nobody listened there.
inline constexpr std::uint32_t kRefused = kServices;
std::vector<bpf_insn> lookup_program(int addresses, int services, int sockets);

}  // namespace relayd::steering
