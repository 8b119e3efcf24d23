#include "proxy/http/first_bytes.h"

#include "proxy/http/characters.h"
#include "proxy/http/request_line.h"

namespace relayd::http {
namespace {

constexpr std::size_t kMostMethod = 32;

// `bytes` is behind the target and its space.
Guess guess_version(std::string_view bytes) {
  constexpr std::string_view kOld = "HTTP/1.0\r\n";
  constexpr std::string_view kNew = "HTTP/1.1\r\n";
  if (bytes.starts_with(kOld) || bytes.starts_with(kNew)) return Guess::kYes;
  return kOld.starts_with(bytes) || kNew.starts_with(bytes) ? Guess::kMore : Guess::kNo;
}

Guess guess(std::string_view bytes) {
  std::size_t space = 0;
  while (space < bytes.size() && (is_upper(bytes[space]) || bytes[space] == '-' || bytes[space] == '_'))
    ++space;
  if (space > kMostMethod) return Guess::kNo;
  if (space == bytes.size()) return Guess::kMore;
  if (space == 0 || bytes[space] != ' ') return Guess::kNo;

  const bool connect = bytes.substr(0, space) == "CONNECT";
  const std::string_view behind = bytes.substr(space + 1);
  const std::size_t size = span_of_target(behind);
  const TargetFit fit = fit_target(behind.substr(0, size), connect);
  if (size == behind.size()) return fit == TargetFit::kNo ? Guess::kNo : Guess::kMore;
  if (fit != TargetFit::kWhole || behind[size] != ' ') return Guess::kNo;
  return guess_version(behind.substr(size + 1));
}

}  // namespace

Guess looks_like_http1_request(std::string_view first_bytes) {
  const Guess result = guess(first_bytes.substr(0, kMostFirstLine));
  return result == Guess::kMore && first_bytes.size() >= kMostFirstLine ? Guess::kNo : result;
}

}  // namespace relayd::http
