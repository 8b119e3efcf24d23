#include "proxy/net/answers.h"

#include "proxy/http/characters.h"

namespace relayd::net {
namespace {

std::string_view phrase(unsigned status) {
  switch (status) {
    case 400:
      return "Bad Request";
    case 408:
      return "Request Timeout";
    case 431:
      return "Request Header Fields Too Large";
    case 501:
      return "Not Implemented";
    case 502:
      return "Bad Gateway";
    case 503:
      return "Service Unavailable";
    case 504:
      return "Gateway Timeout";
    case 505:
      return "HTTP Version Not Supported";
    default:
      return "Error";
  }
}

}  // namespace

std::string answer_text(unsigned status, std::string_view reason, bool head) {
  const std::string body = std::to_string(status) + " " + std::string(phrase(status)) +
                           (reason.empty() ? "" : ": " + std::string(reason)) + "\n";
  std::string text = "HTTP/1.1 " + std::to_string(status) + " " + std::string(phrase(status)) +
                     "\r\nContent-Type: text/plain\r\nContent-Length: " + std::to_string(body.size()) +
                     "\r\nConnection: close\r\n";
  if (status == 503) text += "Retry-After: 1\r\n";
  text += "\r\n";
  return head ? text : text + body;
}

std::string name_client(const http::RequestHead& parsed, std::string_view head, std::string_view address) {
  std::string added;
  std::string named(head);
  if (parsed.forwarded_for.begin > 0) {  // behind all that the client says, also behind an empty line
    const auto& [begin, size] = parsed.forwarded_for;
    named.insert(begin + size, (size > 0 ? ", " : "") + std::string(address));
  } else {
    added = "X-Forwarded-For: " + std::string(address) + "\r\n";
  }
  if (parsed.forwarded_proto.size == 0) added += "X-Forwarded-Proto: http\r\n";
  named.insert(parsed.fields_begin, added);  // in front of the other insertion: no offset has moved
  return named;
}

std::string as_last_head(std::string_view head) {
  constexpr std::string_view kName =
      "connection:";  // no blank stands before the colon: the parser refuses it
  std::string last;
  last.reserve(head.size() + 32);
  for (std::string_view rest = head; rest != "\r\n";) {
    const std::string_view line = rest.substr(0, rest.find("\r\n") + 2);
    const bool named = http::equals_ignoring_case(line.substr(0, kName.size()), kName);
    if (!named) last += line;
    rest.remove_prefix(line.size());
  }
  return last += "Connection: close\r\n\r\n";
}

}  // namespace relayd::net
