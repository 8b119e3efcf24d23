#include "proxy/steering/switch.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>

#include "proxy/steering/bpf.h"
#include "proxy/steering/diagnosis.h"

namespace relayd::steering {
namespace {

constexpr std::size_t kRowsBytes = Switch::kServices * sizeof(std::uint64_t);

AddressKey key_of(const SocketAddress& address) {
  AddressKey key;
  key.family = static_cast<std::uint32_t>(address.family());
  key.port = address.port();
  const std::string_view bytes = address.ip_bytes();
  std::memcpy(key.address, bytes.data(), bytes.size());
  return key;
}

bool same(const AddressKey& one, const AddressKey& other) {
  return std::memcmp(&one, &other, sizeof one) == 0;
}

// Which connections a listening socket takes.
enum class Takes { kIpv4, kBoth, kIpv6 };

Result<Takes> families_of(int socket) {
  auto address = local_address(socket);
  if (!address) return std::unexpected(address.error());
  if (address->family() == AF_INET) return Takes::kIpv4;
  if (address->family() != AF_INET6) return fail("is no TCP socket: " + address->to_string(), EINVAL);
  int only = 0;
  socklen_t length = sizeof only;
  if (::getsockopt(socket, IPPROTO_IPV6, IPV6_V6ONLY, &only, &length) != 0)
    return fail_errno("cannot read IPV6_V6ONLY of " + address->to_string());
  if (only != 0) return Takes::kIpv6;
  // One that is bound to an IPv4 address in IPv6 clothes (RFC 4291, 2.5.5.2) expects no other.
  in6_addr ip;
  std::memcpy(&ip, address->ip_bytes().data(), sizeof ip);
  return IN6_IS_ADDR_V4MAPPED(&ip) ? Takes::kIpv4 : Takes::kBoth;
}

}  // namespace

Result<std::unique_ptr<Switch>> Switch::attach() {
  Maps maps;
  maps.addresses = bpf::create_map("relayd_addr", {.type = BPF_MAP_TYPE_HASH,
                                                   .key_bytes = sizeof(AddressKey),
                                                   .value_bytes = sizeof(Service),
                                                   .entries = kAddresses});
  if (!maps.addresses) return std::unexpected(diagnose(Step::kMap, errno));
  // Mapped, because a store of eight bytes is one step for whoever reads them; the kernel's own update is a
  // copy that need not be.
  maps.services = bpf::create_map("relayd_service", {.type = BPF_MAP_TYPE_ARRAY,
                                                     .key_bytes = sizeof(Service),
                                                     .value_bytes = sizeof(std::uint64_t),
                                                     .entries = kServices,
                                                     .flags = BPF_F_MMAPABLE});
  if (!maps.services) return std::unexpected(diagnose(Step::kMap, errno));
  maps.sockets = bpf::create_map("relayd_socket", {.type = BPF_MAP_TYPE_SOCKMAP,
                                                   .key_bytes = sizeof(std::uint32_t),
                                                   .value_bytes = sizeof(std::uint64_t),
                                                   .entries = kSockets});
  if (!maps.sockets) return std::unexpected(diagnose(Step::kSocketMap, errno));

  const auto text = lookup_program(maps.addresses.get(), maps.services.get(), maps.sockets.get());
  const Descriptor program = bpf::load_program("relayd_steer", text);
  if (!program) {
    const int code = errno;
    std::string log;
    if (code != EPERM) bpf::load_program("relayd_steer", text, &log);
    return std::unexpected(diagnose(Step::kProgram, code, log));
  }
  const Descriptor here(::open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC));
  if (!here) return fail_errno("cannot open /proc/thread-self/ns/net, which steering is attached to");
  Descriptor link = bpf::link_program(program.get(), here.get());
  if (!link) return std::unexpected(diagnose(Step::kLink, errno));
  void* rows = ::mmap(nullptr, kRowsBytes, PROT_READ | PROT_WRITE, MAP_SHARED, maps.services.get(), 0);
  if (rows == MAP_FAILED) return fail_errno("cannot map the steering program's table of services");
  return std::unique_ptr<Switch>(
      new Switch(std::move(maps), std::move(link), static_cast<std::uint64_t*>(rows)));
}

Switch::Switch(Maps maps, Descriptor link, std::uint64_t* rows)
    : maps_(std::move(maps)), link_(std::move(link)), rows_(rows), services_(kServices), places_(kSockets) {
  for (Service service = 0; service < kServices; ++service) free_services_.push_back(service);
}

Switch::~Switch() { ::munmap(rows_, kRowsBytes); }

SwitchRecord Switch::save() const {
  SwitchRecord record;
  record.addresses = maps_.addresses.get();
  record.services = maps_.services.get();
  record.sockets = maps_.sockets.get();
  record.link = link_.get();
  for (Service service = 0; service < kServices; ++service) {
    if (services_[service].used) record.rows.emplace_back(service, services_[service].sockets);
  }
  record.next_place = next_place_;
  record.known = addresses_;
  return record;
}

Result<std::unique_ptr<Switch>> Switch::adopt(const SwitchRecord& record) {
  if (record.layout != kLayout)
    return fail("the steering program's maps have another layout than this relayd knows", EPROTO);
  Maps maps{Descriptor(record.addresses), Descriptor(record.services), Descriptor(record.sockets)};
  void* rows = ::mmap(nullptr, kRowsBytes, PROT_READ | PROT_WRITE, MAP_SHARED, maps.services.get(), 0);
  if (rows == MAP_FAILED) return fail_errno("cannot map the steering program's table of services");
  std::unique_ptr<Switch> adopted(
      new Switch(std::move(maps), Descriptor(record.link), static_cast<std::uint64_t*>(rows)));
  for (const auto& [service, sockets] : record.rows) {
    if (service >= kServices) return fail("the steering program has a service that cannot be", EPROTO);
    Row& row = adopted->services_[service];
    row = {true, sockets};
    for (std::uint32_t place = sockets.base; place < sockets.base + row.size() && place < kSockets; ++place)
      adopted->places_[place] = true;
  }
  std::erase_if(adopted->free_services_, [&](Service s) { return adopted->services_[s].used; });
  adopted->next_place_ = record.next_place % kSockets;
  adopted->addresses_ = record.known;
  return adopted;
}

Result<Switch::Service> Switch::add_service() {
  if (free_services_.empty())
    return fail("no more than " + std::to_string(kServices) + " services can be steered", ENOSPC);
  const Service service = free_services_.front();
  free_services_.pop_front();
  services_[service].used = true;
  return service;
}

void Switch::remove_service(Service service) {
  publish(service, {});
  Row& row = services_[service];
  free_places(row.sockets.base, row.size());
  row = {};
  std::erase_if(addresses_, [&](const auto& entry) {
    if (entry.second != service) return false;
    bpf::erase(maps_.addresses.get(), &entry.first);
    return true;
  });
  free_services_.push_back(service);
}

Result<void> Switch::add_address(Service service, const SocketAddress& address) {
  const std::string name = address.to_string();
  if (address.family() != AF_INET && address.family() != AF_INET6)
    return fail(name + " cannot be steered: only TCP addresses can", EAFNOSUPPORT);
  const AddressKey key = key_of(address);
  const auto known =
      std::ranges::find_if(addresses_, [&](const auto& entry) { return same(entry.first, key); });
  if (!bpf::put(maps_.addresses.get(), &key, &service)) return fail_errno("cannot steer " + name);
  if (known != addresses_.end()) {
    known->second = service;
  } else {
    addresses_.emplace_back(key, service);
  }
  return {};
}

void Switch::remove_address(Service service, const SocketAddress& address) {
  const AddressKey key = key_of(address);
  const auto gone = std::erase_if(
      addresses_, [&](const auto& entry) { return entry.second == service && same(entry.first, key); });
  if (gone != 0) bpf::erase(maps_.addresses.get(), &key);
}

void Switch::refuse(const SocketAddress& address) {
  const AddressKey key = key_of(address);
  bpf::put(maps_.addresses.get(), &key, &kRefused);
}

void Switch::accept_again(const SocketAddress& address) {
  const AddressKey key = key_of(address);
  bpf::erase(maps_.addresses.get(), &key);
}

Result<void> Switch::steer(Service service, std::span<const int> sockets) {
  std::vector<int> by_family[3];
  for (const int socket : sockets) {
    auto takes = families_of(socket);
    if (!takes) return std::unexpected(takes.error());
    by_family[static_cast<std::size_t>(*takes)].push_back(socket);
  }
  const auto count = static_cast<std::uint32_t>(sockets.size());
  const std::uint32_t first = count == 0 ? 0 : find_places(count);
  if (first >= kSockets)
    return fail("no room for " + std::to_string(count) + " more listening sockets in the steering program",
                ENOSPC);
  std::uint32_t place = first;
  for (const auto& group : by_family) {
    for (const int socket : group) {
      const auto value = static_cast<std::uint64_t>(socket);
      if (!bpf::put(maps_.sockets.get(), &place, &value)) {
        auto error = fail_errno("the kernel does not take a listening socket for steering (sockmap)");
        free_places(first, place - first);
        return error;
      }
      places_[place++] = true;
    }
  }
  if (count > 0) next_place_ = place;

  Row& row = services_[service];
  const Row old = row;
  const auto length = [&](Takes takes) {
    return static_cast<std::uint16_t>(by_family[static_cast<std::size_t>(takes)].size());
  };
  row.sockets = {.base = static_cast<std::uint16_t>(first),
                 .ipv4_only = length(Takes::kIpv4),
                 .both = length(Takes::kBoth),
                 .ipv6_only = length(Takes::kIpv6)};
  publish(service, row.sockets);
  free_places(old.sockets.base, old.size());
  return {};
}

void Switch::publish(Service service, const SocketRow& row) {
  std::atomic_ref(rows_[service]).store(row.packed(), std::memory_order_seq_cst);
}

// Goes round, so that a place lies empty for as long as possible: a SYN that is looked up just now may have
// read the row of before, and must not find somebody else's socket there. Empty, it goes to relayd.
std::uint32_t Switch::find_places(std::uint32_t count) const {
  if (count >= kSockets) return kSockets;
  std::uint32_t start = next_place_;
  std::uint32_t looked_at = 0;
  while (looked_at <= 2 * kSockets) {
    if (start + count > kSockets) {
      looked_at += kSockets - start;
      start = 0;
    }
    std::uint32_t length = 0;
    while (length < count && !places_[start + length]) ++length;
    if (length == count) return start;
    looked_at += length + 1;
    start += length + 1;
  }
  return kSockets;
}

void Switch::free_places(std::uint32_t first, std::uint32_t count) {
  for (std::uint32_t place = first; place < first + count; ++place) {
    bpf::erase(maps_.sockets.get(), &place);
    places_[place] = false;
  }
}

}  // namespace relayd::steering
