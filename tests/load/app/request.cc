#include "tests/load/app/request.h"

#include "tests/load/http_text.h"

namespace relayd::load {

std::uint64_t Request::parameter(std::string_view name, std::uint64_t fallback) const {
  std::string_view rest = query;
  while (!rest.empty()) {
    const std::string_view pair = rest.substr(0, rest.find('&'));
    rest.remove_prefix(std::min(rest.size(), pair.size() + 1));
    if (pair.size() > name.size() && pair.starts_with(name) && pair[name.size()] == '=') {
      return number(pair.substr(name.size() + 1)).value_or(fallback);
    }
  }
  return fallback;
}

std::optional<Request> parse_request(std::string_view head) {
  const std::string_view line = head.substr(0, head.find("\r\n"));
  const std::size_t first = line.find(' ');
  const std::size_t last = line.rfind(' ');
  if (first == std::string_view::npos || last == first) return std::nullopt;
  if (header(head, "Transfer-Encoding")) return std::nullopt;
  Request request;
  request.method = line.substr(0, first);
  const std::string_view target = line.substr(first + 1, last - first - 1);
  const std::size_t question = target.find('?');
  request.path = target.substr(0, question);
  if (question != std::string_view::npos) request.query = target.substr(question + 1);
  request.id = header(head, "X-Request-Id").value_or("");
  request.body_length = number(header(head, "Content-Length")).value_or(0);
  const std::string_view connection = header(head, "Connection").value_or("");
  const bool old = line.ends_with("HTTP/1.0");
  request.keep_alive = old ? connection == "keep-alive" : connection != "close";
  return request;
}

}  // namespace relayd::load
