#include "proxy/base/proxy_protocol.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "tests/fuzz/expect.h"

// Any bytes as the front of a stream: what is made of them does not depend on how they are cut, and what is
// read can be written and read again.
namespace relayd::fuzz {
namespace {

using Parsed = Result<std::optional<ProxyHeader>>;

// In memory of just this size, so that a read beyond it is found.
Parsed parse(std::string_view bytes) {
  const std::vector<char> exact(bytes.begin(), bytes.end());
  return parse_proxy_header({exact.data(), exact.size()});
}

void check_one(const Parsed& parsed, std::string_view bytes) {
  if (!parsed) {
    expect(!parsed.error().message.empty() && is_printable(parsed.error().message), "errors are printable");
    return;
  }
  const std::optional<ProxyHeader>& header = *parsed;
  if (!header) {
    const std::size_t most = bytes.starts_with('P') ? kMaxProxyHeaderV1 : kMaxProxyHeader;
    return expect(bytes.size() < most, "a full buffer is enough to decide");
  }
  expect(header->size > 0 && header->size <= std::min(bytes.size(), kMaxProxyHeader),
         "its size is within bounds");
  const std::optional<SocketAddress>&source = header->source, &destination = header->destination;
  expect(source.has_value() != header->local && destination.has_value() != header->local,
         "addresses or none");
  if (!source || !destination) return;
  expect(source->family() == destination->family(), "both of one family");
  expect(source->ip_bytes().size() == (source->family() == AF_INET ? 4 : 16), "IP addresses");
}

// `shorter` is what was made of fewer of the same bytes, `size` of them.
void check_cut(const Parsed& shorter, std::size_t size, const Parsed& whole) {
  if (!shorter) return expect(!whole, "a refusal stays");
  if (shorter->has_value()) return expect(whole && *whole == *shorter, "a header stays as it is");
  if (!whole) return;
  const std::optional<ProxyHeader>& header = *whole;
  expect(!header || header->size > size, "incomplete only while bytes of the header are missing");
}

void check_cuts(std::string_view bytes, const Parsed& whole) {
  const std::size_t step = 1 + bytes.size() / 256;  // all cuts of short ones
  for (std::size_t size = 0; size < bytes.size(); size += step) {
    const std::string_view front = bytes.substr(0, size);
    const Parsed shorter = parse(front);
    check_one(shorter, front);
    check_cut(shorter, size, whole);
    if (!shorter || *shorter) break;  // decided
  }
  const std::optional<ProxyHeader> header = whole.value_or(std::nullopt);
  if (!header) return;
  const Parsed exact = parse(bytes.substr(0, header->size));
  expect(exact && *exact == header, "its own bytes are enough");
  const Parsed less = parse(bytes.substr(0, header->size - 1));
  expect(less && !*less, "all of its bytes are needed");
}

bool is_mapped(const SocketAddress& address) {
  return address.ip_bytes().size() == 16 &&
         address.ip_bytes().starts_with(std::string_view("\0\0\0\0\0\0\0\0\0\0\xff\xff", 12));
}

// A header of what `header` says, written in this version, says the same.
void check_round_trip(const ProxyHeader& header, ProxyVersion version) {
  const SocketAddress* source = header.source ? &*header.source : nullptr;
  const SocketAddress* destination = header.destination ? &*header.destination : nullptr;
  const std::string written = encode_proxy_header(version, source, destination);
  const std::optional<ProxyHeader> again = parse(written).value_or(std::nullopt);
  if (!again) return expect(false, "what is written can be read");
  expect(again->size == written.size() && again->local == header.local, "all of it, and it says the same");
  if (source == nullptr || destination == nullptr || !again->source || !again->destination) return;
  const SocketAddress &from = *again->source, &to = *again->destination;
  expect(encode_proxy_header(version, &from, &to) == written, "it is written the same again");
  expect(from.port() == source->port() && to.port() == destination->port(), "same ports");
  const std::size_t skipped = is_mapped(*source) && is_mapped(*destination) ? 12 : 0;  // written as IPv4
  expect(from.ip_bytes() == source->ip_bytes().substr(skipped), "same source");
  expect(to.ip_bytes() == destination->ip_bytes().substr(skipped), "same destination");
}

}  // namespace
}  // namespace relayd::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace relayd::fuzz;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const Parsed whole = parse(bytes);
  check_one(whole, bytes);
  check_cuts(bytes, whole);
  const std::optional<relayd::ProxyHeader> header = whole.value_or(std::nullopt);
  if (!header) return 0;
  check_round_trip(*header, relayd::ProxyVersion::kV1);
  check_round_trip(*header, relayd::ProxyVersion::kV2);
  return 0;
}
