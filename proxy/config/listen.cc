#include "proxy/config/listen.h"

#include <algorithm>
#include <cctype>
#include <string>

#include "proxy/config/words.h"

namespace relayd::config {
namespace {

bool is_every_address(const SocketAddress& address) {
  return address.host() == "0.0.0.0" || address.host() == "::";
}

// What a person probably wanted to write, as "; did you mean '…'?", or nothing.
std::string meant(std::string_view entry) {
  const bool digits =
      !entry.empty() && std::ranges::all_of(entry, [](unsigned char c) { return std::isdigit(c) != 0; });
  if (digits && entry.size() <= 5) return "; did you mean ':" + std::string(entry) + "'?";
  if (entry.starts_with("*:")) return "; did you mean '" + std::string(entry.substr(1, 6)) + "'?";
  if (entry.starts_with("localhost:"))
    return "; did you mean '127.0.0.1" + std::string(entry.substr(9, 6)) + "'?";
  if (entry.starts_with('/')) return "; did you mean 'unix:" + std::string(entry.substr(0, 107)) + "'?";
  return "";
}

}  // namespace

Result<std::vector<SocketAddress>> listen_addresses(std::string_view entry) {
  std::vector<SocketAddress> addresses;
  if (entry.starts_with("unix:")) {
    auto address = SocketAddress::parse(entry);
    if (!address) return std::unexpected(address.error());
    return std::vector{*address};
  }
  const std::vector<std::string> texts =
      entry.starts_with(':') ? std::vector{"0.0.0.0" + std::string(entry), "[::]" + std::string(entry)}
                             : std::vector{std::string(entry)};
  for (const std::string& text : texts) {
    const auto address = SocketAddress::parse(text);
    if (!address) {
      return fail(
          "cannot listen on " + in_quotes(entry) +
          ": expected \":80\", \"0.0.0.0:80\", \"[::]:80\" or \"unix:/path\"; names are not looked up, and a "
          "port is 0 to 65535" +
          meant(entry));
    }
    addresses.push_back(*address);
  }
  return addresses;
}

bool clash(const SocketAddress& a, const SocketAddress& b) {
  if (a.family() != b.family()) return false;
  if (a.is_unix()) return a == b;
  if (a.port() == 0 || a.port() != b.port()) return false;
  return a.host() == b.host() || is_every_address(a) || is_every_address(b);
}

}  // namespace relayd::config
