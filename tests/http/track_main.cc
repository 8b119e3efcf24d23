// Says what the tracker makes of messages, as JSON lines, for tests that compare it with others.
//
//   http_track --corpus   the cases of corpus.txt, with their bytes in hex
//   http_track            reads "request HEX" or "response HEX" lines ("response-to-HEAD HEX" too) from
//   standard input
#include <iostream>
#include <nlohmann/json.hpp>
#include <string>

#include "tests/http/corpus.h"

namespace relayd::http {
namespace {

std::string to_hex(const std::string& bytes) {
  static constexpr char kDigits[] = "0123456789abcdef";
  std::string hex;
  for (const char c : bytes) {
    const auto value = static_cast<unsigned char>(c);
    hex += {kDigits[value >> 4U], kDigits[value & 15U]};
  }
  return hex;
}

std::string from_hex(const std::string& hex) {
  std::string bytes;
  for (std::size_t at = 0; at + 1 < hex.size(); at += 2)
    bytes += static_cast<char>(std::stoi(hex.substr(at, 2), nullptr, 16));
  return bytes;
}

nlohmann::json verdict(Side side, RequestContext context, const std::string& bytes) {
  Follower follower(side, context);
  follower.feed(bytes);
  nlohmann::json said{{"first", follower.first()}};
  if (follower.first().find("refused") != std::string::npos) {
    said["refused"] = true;
  } else if (follower.first().ends_with(" tunnel")) {
    said["tunnel"] = follower.heads()[0].size();
  } else if (!follower.marks().empty()) {
    said["end"] = follower.marks()[0];
  }
  return said;
}

std::string side_name(const Case& one) {
  if (one.side == Side::kRequest) return "request";
  return one.context.head      ? "response-to-HEAD"
         : one.context.connect ? "response-to-CONNECT"
         : one.context.upgrade ? "response-to-upgrade"
                               : "response";
}

void print_corpus() {
  for (const Case& one : read_corpus(RELAYD_HTTP_CORPUS)) {
    nlohmann::json line = verdict(one.side, one.context, one.bytes);
    line["name"] = one.name;
    line["side"] = side_name(one);
    line["node"] = one.node;
    line["hex"] = to_hex(one.bytes);
    std::cout << line.dump() << "\n";
  }
}

void print_verdicts() {
  for (std::string line; std::getline(std::cin, line);) {
    const std::size_t space = line.find(' ');  // no bytes may be behind it
    const std::string side = line.substr(0, space);
    const RequestContext context{.head = side == "response-to-HEAD"};
    const std::string bytes = from_hex(line.substr(space + 1));
    std::cout << verdict(side == "request" ? Side::kRequest : Side::kResponse, context, bytes).dump() << "\n";
  }
}

}  // namespace
}  // namespace relayd::http

int main(int argc, char** argv) try {
  if (argc == 2 && std::string(argv[1]) == "--corpus") {
    relayd::http::print_corpus();
  } else {
    relayd::http::print_verdicts();
  }
} catch (const std::exception& error) {
  std::cerr << "http_track: " << error.what() << "\n";
  return 1;
}
