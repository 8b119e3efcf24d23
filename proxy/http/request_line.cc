#include "proxy/http/request_line.h"

#include <algorithm>

#include "proxy/http/characters.h"

namespace relayd::http {
namespace {

struct KnownMethod {
  std::string_view name;
  Method method;
};
constexpr KnownMethod kKnownMethods[] = {
    {"GET", Method::kGet},         {"POST", Method::kPost},     {"HEAD", Method::kHead},
    {"PUT", Method::kPut},         {"DELETE", Method::kDelete}, {"OPTIONS", Method::kOptions},
    {"CONNECT", Method::kConnect}, {"TRACE", Method::kTrace},
};

Method method_of(std::string_view name) {
  for (const KnownMethod& known : kKnownMethods) {
    if (name == known.name) return known.method;
  }
  return Method::kOther;
}

// host ":" port, both there: RFC 9110 9.3.6 wants an empty port rejected.
TargetFit fit_authority(std::string_view target) {
  if (span_of(kHostChar, target) != target.size() || target.starts_with(':')) return TargetFit::kNo;
  const std::size_t colon = target.rfind(':');
  if (colon == std::string_view::npos || colon + 1 == target.size()) return TargetFit::kBeginning;
  const std::string_view port = target.substr(colon + 1);
  return std::ranges::all_of(port, is_digit) ? TargetFit::kWhole : TargetFit::kBeginning;
}

// 1*ALPHA "://" and something behind it. Schemes with other characters are nothing that an HTTP server is
// asked for.
TargetFit fit_absolute(std::string_view target) {
  constexpr std::string_view kMark = "://";
  const auto letters = static_cast<std::size_t>(std::ranges::find_if_not(target, is_alpha) - target.begin());
  const std::string_view behind = target.substr(letters);
  if (letters == 0) return TargetFit::kNo;
  if (behind.size() <= kMark.size())
    return kMark.starts_with(behind) ? TargetFit::kBeginning : TargetFit::kNo;
  return behind.starts_with(kMark) ? TargetFit::kWhole : TargetFit::kNo;
}

// RFC 9112 2.3: case counts, one digit on each side.
Verdict<std::uint8_t> read_version(std::string_view version) {
  if (version == "HTTP/1.1") return 1;
  if (version == "HTTP/1.0") return 0;
  const bool of_http = version.size() == 8 && version.starts_with("HTTP/") && is_digit(version[5]) &&
                       version[6] == '.' && is_digit(version[7]);
  return of_http ? refuse("a version that is neither HTTP/1.0 nor HTTP/1.1", 505)
                 : refuse("a malformed HTTP version");
}

}  // namespace

TargetFit fit_target(std::string_view target, bool connect) {
  if (target.empty()) return TargetFit::kBeginning;
  if (connect) return fit_authority(target);
  if (target.front() == '/') return TargetFit::kWhole;
  if (target.front() == '*') return target.size() == 1 ? TargetFit::kWhole : TargetFit::kNo;
  return fit_absolute(target);
}

Verdict<RequestLine> read_request_line(std::string_view line) {
  const std::size_t space = span_of(kTokenChar, line);
  if (space == 0 || space == line.size() || line[space] != ' ') return refuse("a malformed method");
  const std::string_view name = line.substr(0, space);
  RequestLine result{.method = method_of(name)};
  // RFC 9110 9.1: case counts. A backend to which it does not would frame its response otherwise than relayd.
  if (result.method == Method::kOther &&
      (equals_ignoring_case(name, "head") || equals_ignoring_case(name, "connect")))
    return refuse("a method that differs from HEAD or CONNECT in case only");

  const std::string_view behind = line.substr(space + 1);
  const std::size_t path = behind.starts_with('/') ? span_of(kPathChar, behind) : 0;
  const bool plain = path < behind.size() && path > 0 && behind[path] == ' ';
  const std::size_t size = plain ? path : span_of_target(behind);
  if (size == 0) return refuse("a request line without a target");
  if (size == behind.size()) return refuse("a request line without an HTTP version");  // HTTP/0.9
  if (behind[size] != ' ') return refuse("a control byte in the request line");
  const std::string_view target = behind.substr(0, size);
  const auto minor = read_version(behind.substr(size + 1));
  if (!minor) return std::unexpected(minor.error());
  result.minor = *minor;
  result.plain = plain && result.method != Method::kOther && result.method != Method::kConnect;
  if (result.plain) return result;
  if (fit_target(target, result.method == Method::kConnect) != TargetFit::kWhole)
    return refuse("a request target that does not fit the method");
  // RFC 9113 3.4: the beginning of HTTP/2; with another version it is nothing at all
  if (name == "PRI") return refuse("the method PRI belongs to HTTP/2", 505);
  result.ascii_target =
      std::ranges::all_of(target, [](char c) { return static_cast<unsigned char>(c) < 0x80; });
  return result;
}

}  // namespace relayd::http
