#include "tests/load/client/exchange.h"

#include "tests/load/crc32.h"
#include "tests/load/http_text.h"

namespace relayd::load {
namespace {

constexpr std::size_t kLargestHead = 65536;

std::string quoted(std::optional<std::string_view> text) {
  return text ? "'" + std::string(text->substr(0, 80)) + "'" : "nothing";
}

// Begins with the id, so that no two bodies are alike.
std::string body_for(const std::string& id, std::uint64_t bytes) {
  std::string body = id + ":";
  while (body.size() < bytes) body.append("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ-_");
  body.resize(bytes);
  return body;
}

}  // namespace

Exchange::Exchange(const Options& options, std::string id, bool with_body)
    : options_(options), id_(std::move(id)) {
  switch (options_.protocol) {
    case Protocol::kHttp:
      build_http(with_body);
      break;
    case Protocol::kRedis:
      to_send_ = "*2\r\n$4\r\nPING\r\n$" + std::to_string(id_.size()) + "\r\n" + id_ + "\r\n";
      break;
    case Protocol::kLine:
      to_send_ = id_ + "\n";
      break;
  }
}

void Exchange::build_http(bool with_body) {
  to_send_ = std::string(with_body ? "POST " : "GET ") + options_.path +
             " HTTP/1.1\r\nHost: relay-load\r\nX-Request-Id: " + id_ + "\r\n" +
             (options_.keep_alive ? "" : "Connection: close\r\n");
  if (with_body) {
    const std::string body = body_for(id_, options_.body_bytes);
    Crc32 crc;
    crc.add(body);
    expected_crc_ = hex8(crc.value());
    expected_length_ = std::to_string(body.size());
    to_send_ +=
        "Content-Type: application/octet-stream\r\nContent-Length: " + expected_length_ + "\r\n\r\n" + body;
  } else {
    to_send_ += "\r\n";
  }
}

bool Exchange::receive(std::string_view bytes) {
  received_.append(bytes);
  switch (options_.protocol) {
    case Protocol::kHttp:
      return receive_http();
    case Protocol::kRedis:
      return receive_exactly("$" + std::to_string(id_.size()) + "\r\n" + id_ + "\r\n");
    case Protocol::kLine:
      return receive_exactly(id_ + "\n");
  }
  return false;
}

bool Exchange::end(Ending ending, std::string complaint) {
  ending_ = ending;
  complaint_ = std::move(complaint);
  return true;
}

bool Exchange::receive_exactly(const std::string& expected) {
  const std::size_t compared = std::min(expected.size(), received_.size());
  if (received_.compare(0, compared, expected, 0, compared) != 0) {
    const bool error = received_.starts_with('-');  // Redis: an error instead of an answer
    return end(error ? Ending::kBadStatus : Ending::kBadBody, "answer begins " + quoted(received_));
  }
  if (received_.size() > expected.size()) return end(Ending::kBadBody, "more than the answer came");
  return received_.size() == expected.size();
}

bool Exchange::receive_http() {
  const std::size_t end_of_head = received_.find("\r\n\r\n");
  if (end_of_head == std::string::npos) {
    if (received_.size() > kLargestHead) return end(Ending::kBadBody, "a head without an end");
    return false;
  }
  const std::string_view head = std::string_view(received_).substr(0, end_of_head + 2);
  const auto length = number(header(head, "Content-Length"));
  if (!length) {
    return end(Ending::kClientError, "an answer without Content-Length: nobody can tell whether it is whole");
  }
  const std::size_t whole = end_of_head + 4 + *length;
  if (received_.size() < whole) return false;
  if (received_.size() > whole) return end(Ending::kBadBody, "more than the answer came");
  return check_http(head);
}

bool Exchange::check_http(std::string_view head) {
  const std::string_view line = head.substr(0, head.find("\r\n"));
  if (!line.starts_with("HTTP/1.1 ") || line.size() < 12)
    return end(Ending::kBadBody, "no HTTP: " + quoted(line));
  if (line[9] != '2') return end(Ending::kBadStatus, std::string(line.substr(0, 80)));
  const auto is = [&](const char* name, const std::string& expected) {
    const auto value = header(head, name);
    if (value && *value == expected) return true;
    end(Ending::kBadBody, std::string(name) + " is " + quoted(value) + ", expected '" + expected + "'");
    return false;
  };
  if (options_.checking >= Checking::kId && !is("X-Request-Id", id_)) return true;
  if (!expected_length_.empty()) {
    if (options_.checking >= Checking::kLength && !is("X-Body-Length", expected_length_)) return true;
    if (options_.checking >= Checking::kCrc && !is("X-Body-Crc32", expected_crc_)) return true;
  }
  if (options_.client_check != ClientCheck::kNone && !check_client(head)) return true;
  facts_.generation = header(head, "X-Generation").value_or("");
  facts_.instance = header(head, "X-Instance").value_or("");
  facts_.accepted = number(header(head, "X-Accepted")).value_or(0);
  const auto connection = header(head, "Connection");
  server_closes_ = connection && (*connection == "close" || *connection == "Close");
  return true;
}

bool Exchange::check_client(std::string_view head) {
  const auto address = [](std::string_view client) { return client.substr(0, client.rfind(':')); };
  const auto told = header(head, "X-Client");
  const bool right = told && (*told == client_ || (options_.client_check == ClientCheck::kAddress &&
                                                   address(*told) == address(client_)));
  if (!right) end(Ending::kBadBody, "X-Client is " + quoted(told) + ", expected '" + client_ + "'");
  return right;
}

}  // namespace relayd::load
