#include "proxy/base/proxy_protocol.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <charconv>

namespace relayd {
namespace {

using Parsed = Result<std::optional<ProxyHeader>>;

constexpr std::string_view kMarkV1 = "PROXY ";
constexpr std::string_view kSignatureV2("\r\n\r\n\0\r\nQUIT\n", 12);
constexpr std::size_t kFixedV2 = 16;         // signature, version and command, family, length
constexpr std::size_t kUnixAddresses = 216;  // two of 108 bytes
constexpr std::size_t kTlvHead = 3;          // type, length
constexpr std::uint8_t kTlvCrc32c = 0x03;
constexpr std::size_t kShown = 24;  // bytes of what came instead that an error shows

enum Family : std::uint8_t { kUnspec = 0x00, kTcp4 = 0x11, kTcp6 = 0x21, kUnixStream = 0x31 };

std::uint8_t byte_at(std::string_view bytes, std::size_t at) { return static_cast<std::uint8_t>(bytes[at]); }

std::size_t number_at(std::string_view bytes, std::size_t at) {
  return static_cast<std::size_t>(byte_at(bytes, at)) << 8U | byte_at(bytes, at + 1);
}

std::string hex(std::uint8_t byte) {
  constexpr std::string_view kDigits = "0123456789abcdef";
  return {kDigits[byte >> 4U], kDigits[byte & 0xfU]};
}

// In quotes, with what is not printable escaped.
std::string shown(std::string_view bytes) {
  std::string text = "'";
  for (const char c : bytes.substr(0, kShown)) {
    if (c == '\r') {
      text += "\\r";
    } else if (c == '\n') {
      text += "\\n";
    } else if (c < 0x20 || c > 0x7e || c == '\\' || c == '\'') {
      text += "\\x" + hex(static_cast<std::uint8_t>(c));
    } else {
      text += c;
    }
  }
  return text + (bytes.size() > kShown ? "'..." : "'");
}

std::unexpected<Error> no_header(std::string_view bytes) {
  return fail("no PROXY header: the first bytes are " + shown(bytes) +
              "; whoever connects here must send one (proxy_protocol.accept is on)");
}

std::unexpected<Error> faulty(std::string_view version, const std::string& what) {
  return fail("faulty PROXY header, version " + std::string(version) + ": " + what);
}

// ---- version 1 (section 2.1)
// --------------------------------------------------------------------------------

// Takes the word up to the next space, and that space, from the front of `line`; all of it where there is
// none.
std::string_view take_word(std::string_view& line) {
  const std::string_view word = line.substr(0, line.find(' '));
  line.remove_prefix(std::min(line.size(), word.size() + 1));
  return word;
}

std::optional<std::uint16_t> port_from(std::string_view digits) {
  std::uint16_t port = 0;
  const auto [end, failure] = std::from_chars(digits.data(), digits.data() + digits.size(), port);
  if (failure != std::errc{} || end != digits.data() + digits.size()) return std::nullopt;
  if (digits.size() > 1 && digits[0] == '0') return std::nullopt;
  return port;
}

std::optional<SocketAddress> address_from(int family, std::string_view host, std::string_view port) {
  std::array<char, INET6_ADDRSTRLEN> text{};  // ends in zeros
  std::array<char, sizeof(in6_addr)> bytes{};
  const auto number = port_from(port);
  if (!number || host.size() >= text.size()) return std::nullopt;
  std::ranges::copy(host, text.begin());
  if (::inet_pton(family, text.data(), bytes.data()) != 1) return std::nullopt;
  const std::size_t size = family == AF_INET ? sizeof(in_addr) : sizeof(in6_addr);
  return SocketAddress::from_ip_bytes(std::string_view(bytes.data(), size), *number);
}

// `rest` is what follows the protocol word and its space, without the line end.
Parsed addresses_v1(int family, std::string_view rest, std::size_t size) {
  if (std::ranges::count(rest, ' ') != 3) {
    return faulty("1",
                  "it has " + shown(rest) + " where two addresses and two ports belong, one space apart");
  }
  const std::string_view from = take_word(rest);
  const std::string_view to = take_word(rest);
  const std::string_view from_port = take_word(rest);
  ProxyHeader header{.source = address_from(family, from, from_port),
                     .destination = address_from(family, to, rest),
                     .size = size};
  if (header.source && header.destination) return header;
  const bool first = !header.source;
  return faulty("1", "'" + std::string(first ? from : to) + "' with port '" +
                         std::string(first ? from_port : rest) + "' is no " +
                         (family == AF_INET ? "IPv4" : "IPv6") +
                         " address with a port from 0 to 65535 without leading zeros");
}

// Where the line's CR stands; npos: not come yet.
Result<std::size_t> line_end(std::string_view bytes) {
  const std::string_view line = bytes.substr(0, kMaxProxyHeaderV1);
  const std::size_t end = line.find_first_of(std::string_view("\r\n\0", 3));
  if (end != std::string_view::npos && line[end] == '\0') return faulty("1", "a zero byte in its line");
  if (end != std::string_view::npos && line[end] == '\n') {
    return faulty("1", "its line ends in LF alone; it must end in CR LF");
  }
  if (end != std::string_view::npos && end + 1 < line.size()) {
    if (line[end + 1] == '\n') return end;
    return faulty("1", "a CR within its line");
  }
  if (line.size() < kMaxProxyHeaderV1) return std::string_view::npos;
  return faulty("1", "no line end within " + std::to_string(kMaxProxyHeaderV1) + " bytes");
}

// `bytes` begins with the mark of version 1.
Parsed parse_v1(std::string_view bytes) {
  struct Protocol {
    std::string_view word;
    std::string_view allowed;  // after the word
    int family;
  };
  static constexpr std::array<Protocol, 3> kProtocols = {{{"UNKNOWN", "", AF_UNSPEC},
                                                          {"TCP4 ", "0123456789. ", AF_INET},
                                                          {"TCP6 ", "0123456789abcdefABCDEF:. ", AF_INET6}}};
  const auto end = line_end(bytes);
  if (!end) return std::unexpected(end.error());
  const bool complete = *end != std::string_view::npos;
  std::string_view rest = bytes.substr(0, std::min(*end, bytes.find('\r'))).substr(kMarkV1.size());
  for (const Protocol& protocol : kProtocols) {
    if (!complete && protocol.word.starts_with(rest)) return std::nullopt;
    if (!rest.starts_with(protocol.word)) continue;
    rest.remove_prefix(protocol.word.size());
    if (protocol.family == AF_UNSPEC) {
      if (!rest.empty() && rest[0] != ' ') break;
      if (!complete) return std::nullopt;
      return ProxyHeader{.local = true, .source = {}, .destination = {}, .size = *end + 2};
    }
    if (const std::size_t odd = rest.find_first_not_of(protocol.allowed); odd != std::string_view::npos) {
      return faulty("1", shown(rest.substr(odd, 1)) + " in its addresses");
    }
    if (!complete) return std::nullopt;
    return addresses_v1(protocol.family, rest, *end + 2);
  }
  return faulty("1", "it begins " + shown(bytes) + "; PROXY TCP4, PROXY TCP6 or PROXY UNKNOWN is expected");
}

// ---- version 2 (section 2.2)
// --------------------------------------------------------------------------------

constexpr std::array<std::uint32_t, 256> kCrc32cTable = [] {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < table.size(); ++i) {
    std::uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) value = (value >> 1U) ^ ((value & 1U) != 0 ? 0x82f63b78U : 0U);
    table[i] = value;
  }
  return table;
}();

// CRC-32C (RFC 9260, appendix A) of `header`, its four bytes from `field` on counting as zeros.
std::uint32_t crc32c(std::string_view header, std::size_t field) {
  std::uint32_t crc = 0xffffffffU;
  for (std::size_t i = 0; i < header.size(); ++i) {
    const std::uint32_t byte = i >= field && i < field + 4 ? 0 : byte_at(header, i);
    crc = kCrc32cTable[(crc ^ byte) & 0xffU] ^ (crc >> 8U);
  }
  return ~crc;
}

Result<void> check_tlvs(std::string_view header, std::size_t at) {
  bool summed = false;
  while (at < header.size()) {
    if (header.size() - at < kTlvHead || header.size() - at - kTlvHead < number_at(header, at + 1)) {
      return faulty("2", "a TLV at byte " + std::to_string(at) + " is longer than the header");
    }
    const std::size_t length = number_at(header, at + 1);
    const std::size_t value = at + kTlvHead;
    if (byte_at(header, at) == kTlvCrc32c) {
      if (length != 4 || summed) return faulty("2", "its checksum must be one, of 4 bytes");
      summed = true;
      const auto sum =
          static_cast<std::uint32_t>(number_at(header, value) << 16U | number_at(header, value + 2));
      if (sum != crc32c(header, value))
        return faulty("2", "its checksum is wrong: it was changed on its way");
    }
    at = value + length;
  }
  return {};
}

// Bytes of both addresses and ports; nothing for what we do not take.
std::optional<std::size_t> addresses_size(std::uint8_t family) {
  switch (family) {
    case kUnspec:
      return 0;
    case kTcp4:
      return 12;
    case kTcp6:
      return 36;
    case kUnixStream:
      return kUnixAddresses;
    default:
      return std::nullopt;
  }
}

// The marks of version 2, as far as they have come.
Result<void> check_marks_v2(std::string_view bytes) {
  if (bytes.size() > 12 && byte_at(bytes, 12) >> 4U != 2) {
    return faulty("2", "it says that its version is " + std::to_string(byte_at(bytes, 12) >> 4U));
  }
  if (bytes.size() > 12 && (byte_at(bytes, 12) & 0xfU) > 1) {
    return faulty(
        "2", "command " + std::to_string(byte_at(bytes, 12) & 0xfU) + " is none: 0 is LOCAL, 1 is PROXY");
  }
  if (bytes.size() < 14) return {};
  const bool local = (byte_at(bytes, 12) & 0xfU) == 0;
  const auto addresses = local ? 0 : addresses_size(byte_at(bytes, 13));
  if (!addresses) {
    return faulty("2",
                  "family and protocol are 0x" + hex(byte_at(bytes, 13)) +
                      "; only streams are taken: TCP over IPv4 (0x11), IPv6 (0x21), Unix (0x31), or 0x00");
  }
  if (bytes.size() < kFixedV2) return {};
  const std::size_t length = number_at(bytes, 14);
  if (length < *addresses) {
    return faulty("2", "its length is " + std::to_string(length) + ", but its addresses take " +
                           std::to_string(*addresses) + " bytes");
  }
  if (kFixedV2 + length > kMaxProxyHeader) {
    return faulty("2", "it has " + std::to_string(kFixedV2 + length) + " bytes, and at most " +
                           std::to_string(kMaxProxyHeader) + " are taken: make the sender add less (TLVs)");
  }
  return {};
}

// `bytes` begins with the signature of version 2.
Parsed parse_v2(std::string_view bytes) {
  if (const auto right = check_marks_v2(bytes); !right) return std::unexpected(right.error());
  if (bytes.size() < kFixedV2 || bytes.size() < kFixedV2 + number_at(bytes, 14)) return std::nullopt;
  const std::string_view header = bytes.substr(0, kFixedV2 + number_at(bytes, 14));
  const std::uint8_t family = byte_at(header, 13);
  ProxyHeader result{.local = true, .source = {}, .destination = {}, .size = header.size()};
  if ((byte_at(header, 12) & 0xfU) == 0 || family == kUnspec) return result;
  if (const auto right = check_tlvs(header, kFixedV2 + addresses_size(family).value_or(0)); !right) {
    return std::unexpected(right.error());
  }
  if (family == kUnixStream) return result;
  const std::size_t size = family == kTcp4 ? sizeof(in_addr) : sizeof(in6_addr);
  const auto port = [&](std::size_t index) {
    return static_cast<std::uint16_t>(number_at(header, kFixedV2 + 2 * size + 2 * index));
  };
  result.local = false;
  result.source = SocketAddress::from_ip_bytes(header.substr(kFixedV2, size), port(0));
  result.destination = SocketAddress::from_ip_bytes(header.substr(kFixedV2 + size, size), port(1));
  return result;
}

// ---- writing
// ------------------------------------------------------------------------------------------------

constexpr std::string_view kMappedV4("\0\0\0\0\0\0\0\0\0\0\xff\xff", 12);  // RFC 4291, section 2.5.5.2

// The IPv4 address where there is one in it, else empty.
std::string_view as_v4(std::string_view ip) {
  if (ip.size() == sizeof(in_addr)) return ip;
  return ip.starts_with(kMappedV4) ? ip.substr(kMappedV4.size()) : std::string_view();
}

SocketAddress as_v6(const SocketAddress& address) {
  if (address.family() == AF_INET6) return address;
  return SocketAddress::from_ip_bytes(std::string(kMappedV4).append(address.ip_bytes()), address.port());
}

void append_number(std::string& out, std::size_t number) {
  out += static_cast<char>(number >> 8U & 0xffU);
  out += static_cast<char>(number & 0xffU);
}

std::string encode_v1(const SocketAddress& from, const SocketAddress& to) {
  std::string line(kMarkV1);
  line.append(from.family() == AF_INET ? "TCP4 " : "TCP6 ").append(from.host()).append(" ").append(to.host());
  line.append(" ").append(std::to_string(from.port())).append(" ").append(std::to_string(to.port()));
  return line.append("\r\n");
}

std::string encode_v2(const SocketAddress& from, const SocketAddress& to) {
  std::string header(kSignatureV2);
  header += '\x21';
  header += static_cast<char>(from.family() == AF_INET ? kTcp4 : kTcp6);
  append_number(header, 2 * from.ip_bytes().size() + 4);
  header.append(from.ip_bytes()).append(to.ip_bytes());
  append_number(header, from.port());
  append_number(header, to.port());
  return header;
}

}  // namespace

Parsed parse_proxy_header(std::string_view bytes) {
  for (const std::string_view mark : {kMarkV1, kSignatureV2}) {
    if (mark.starts_with(bytes.substr(0, mark.size()))) {
      if (bytes.size() < mark.size()) return std::nullopt;
      return mark == kMarkV1 ? parse_v1(bytes) : parse_v2(bytes);
    }
  }
  return no_header(bytes);
}

std::string encode_proxy_header(ProxyVersion version, const SocketAddress* source,
                                const SocketAddress* destination) {
  if (source == nullptr || destination == nullptr || source->ip_bytes().empty() ||
      destination->ip_bytes().empty()) {
    if (version == ProxyVersion::kV1) return "PROXY UNKNOWN\r\n";
    return std::string(kSignatureV2).append(std::string_view("\x20\0\0\0", 4));
  }
  const std::string_view from = as_v4(source->ip_bytes());
  const std::string_view to = as_v4(destination->ip_bytes());
  const bool v4 = !from.empty() && !to.empty();
  const auto encode = version == ProxyVersion::kV1 ? encode_v1 : encode_v2;
  return encode(v4 ? SocketAddress::from_ip_bytes(from, source->port()) : as_v6(*source),
                v4 ? SocketAddress::from_ip_bytes(to, destination->port()) : as_v6(*destination));
}

}  // namespace relayd
