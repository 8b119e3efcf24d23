#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "proxy/base/address.h"
#include "proxy/base/error.h"

namespace relayd {

// The PROXY protocol, versions 1 (a line of text) and 2 (binary), as HAProxy's proxy-protocol.txt defines it:
// a header in front of a stream tells whom it came from. Sections below are that document's. No I/O here.

// Bytes. Version 1 is bounded by its definition (section 2.1). A version 2 header may say that it has 64 KiB;
// addresses take 36 bytes of IPv6, or 216 of Unix sockets, and what senders add in TLVs (names, identities of
// cloud endpoints) some hundred. 4096 leaves room for all of them, and bounds what a stranger makes us keep;
// a client's whole certificate (PP2_SUBTYPE_SSL_CLIENT_CERT) may not fit and is of no use here.
inline constexpr std::size_t kMaxProxyHeaderV1 = 107;
inline constexpr std::size_t kMaxProxyHeader = 4096;

enum class ProxyVersion : std::uint8_t { kV1, kV2 };

struct ProxyHeader {
  // It names no addresses that we could use (LOCAL, UNKNOWN, UNSPEC, or Unix sockets): those of the
  // connection itself hold.
  bool local = false;
  // Both set, and of the same family, IPv4 or IPv6, unless `local`.
  std::optional<SocketAddress> source, destination;
  std::size_t size = 0;  // bytes that the header takes at the front of the stream

  bool operator==(const ProxyHeader&) const = default;
};

// Reads the header at the front of `bytes`; what follows it is not looked at. Nothing: it is right so far,
// and more bytes are needed, up to kMaxProxyHeader in all. An error says what is wrong and what to do, and
// comes as soon as the marks of a header (its first bytes, version, command, family, length) are wrong: more
// bytes would not help. No longer stream turns an error into a header.
//
// Stricter than the document where leniency could make two readers see different things: one space between
// words, ports without leading zeros, no zero byte, and no CR or LF but the pair at the end. TLVs must fit
// but are not interpreted, except that a checksum (PP2_TYPE_CRC32C) must hold (section 2.2.3). The contents
// of a LOCAL or UNSPEC header are skipped (section 2.2).
Result<std::optional<ProxyHeader>> parse_proxy_header(std::string_view bytes);

// The header for a connection from `source` to `destination`. Where either is null or not an IP address it
// names none: UNKNOWN in version 1, LOCAL in version 2. IPv4 addresses in IPv6 clothes (::ffff:a.b.c.d) are
// written as IPv4 if both can be; where only one can be, both are written as IPv6, so that the client's
// address arrives although the listener is of the other family.
std::string encode_proxy_header(ProxyVersion version, const SocketAddress* source,
                                const SocketAddress* destination);

}  // namespace relayd
