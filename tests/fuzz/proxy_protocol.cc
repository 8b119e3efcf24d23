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
  if (!*parsed) {
    const std::size_t most = bytes.starts_with('P') ? kMaxProxyHeaderV1 : kMaxProxyHeader;
    return expect(bytes.size() < most, "a full buffer is enough to decide");
  }
  const ProxyHeader& header = **parsed;
  expect(header.size > 0 && header.size <= std::min(bytes.size(), kMaxProxyHeader),
         "its size is within bounds");
  expect(header.source.has_value() != header.local && header.destination.has_value() != header.local,
         "addresses or none");
  if (header.local) return;
  expect(header.source->family() == header.destination->family(), "both of one family");
  expect(header.source->ip_bytes().size() == (header.source->family() == AF_INET ? 4 : 16), "IP addresses");
}

// `shorter` is what was made of fewer of the same bytes, `size` of them.
void check_cut(const Parsed& shorter, std::size_t size, const Parsed& whole) {
  if (!shorter) return expect(!whole, "a refusal stays");
  if (*shorter) return expect(whole && *whole == *shorter, "a header stays as it is");
  expect(!whole || !*whole || (*whole)->size > size, "incomplete only while bytes of the header are missing");
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
  if (!whole || !*whole) return;
  const Parsed exact = parse(bytes.substr(0, (*whole)->size));
  expect(exact && *exact == *whole, "its own bytes are enough");
  const Parsed less = parse(bytes.substr(0, (*whole)->size - 1));
  expect(less && !*less, "all of its bytes are needed");
}

bool is_mapped(const SocketAddress& address) {
  return address.ip_bytes().size() == 16 &&
         address.ip_bytes().starts_with(std::string_view("\0\0\0\0\0\0\0\0\0\0\xff\xff", 12));
}

void check_round_trip(const ProxyHeader& header) {
  for (const ProxyVersion version : {ProxyVersion::kV1, ProxyVersion::kV2}) {
    const SocketAddress* source = header.source ? &*header.source : nullptr;
    const SocketAddress* destination = header.destination ? &*header.destination : nullptr;
    const std::string written = encode_proxy_header(version, source, destination);
    const Parsed again = parse(written);
    expect(again && *again && (*again)->size == written.size(), "what is written can be read");
    expect((*again)->local == header.local, "and says the same");
    if (header.local) continue;
    const SocketAddress& read = *(*again)->source;
    expect(encode_proxy_header(version, &read, &*(*again)->destination) == written,
           "and is written the same");
    expect(read.port() == source->port() && (*again)->destination->port() == destination->port(),
           "same ports");
    if (is_mapped(*source) && is_mapped(*destination)) {
      expect(read.ip_bytes() == source->ip_bytes().substr(12), "written as IPv4");
    } else {
      expect(read == *source && *(*again)->destination == *destination, "same addresses");
    }
  }
}

}  // namespace
}  // namespace relayd::fuzz

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace relayd::fuzz;
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  const Parsed whole = parse(bytes);
  check_one(whole, bytes);
  check_cuts(bytes, whole);
  if (whole && *whole) check_round_trip(**whole);
  return 0;
}
