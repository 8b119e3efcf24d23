#include "tests/http/corpus.h"

#include <fstream>
#include <stdexcept>

#include "proxy/http/characters.h"

namespace relayd::http {
namespace {

class Unescape {
 public:
  explicit Unescape(std::string_view text) : text_(text) {}

  std::string read(char until = '\0') {
    std::string bytes;
    while (at_ < text_.size() && (until == '\0' || text_[at_] != until)) {
      if (text_[at_] == '\\') {
        ++at_;
        bytes += escaped();
      } else {
        bytes += text_[at_++];
      }
    }
    if (until != '\0') next();
    return bytes;
  }

 private:
  char next() {
    if (at_ >= text_.size()) throw std::runtime_error("an escape is cut short");
    return text_[at_++];
  }

  std::string escaped() {
    switch (const char letter = next()) {
      case 'r':
        return "\r";
      case 'n':
        return "\n";
      case 't':
        return "\t";
      case 's':
        return " ";
      case 'x': {
        const std::string digits{next(), next()};
        return {static_cast<char>(std::stoi(digits, nullptr, 16))};
      }
      case '{':
        return repeated();
      case '\\':
        return "\\";
      default:
        throw std::runtime_error(std::string("unknown escape \\") + letter);
    }
  }

  std::string repeated() {
    std::string number;
    for (char c = next(); c != '*'; c = next()) number += c;
    const std::string unit = read('}');
    std::string bytes;
    for (int i = std::stoi(number); i > 0; --i) bytes += unit;
    return bytes;
  }

  std::string_view text_;
  std::size_t at_ = 0;
};

bool take(std::string& text, const std::string& prefix) {
  if (!text.starts_with(prefix)) return false;
  text.erase(0, prefix.size());
  return true;
}

void read_expectation(Case& read, std::string line) {
  read.side = take(line, "request ") ? Side::kRequest : Side::kResponse;
  if (read.side == Side::kResponse && !take(line, "response ")) throw std::runtime_error("no side");
  read.context = {take(line, "to HEAD "), take(line, "to CONNECT "), take(line, "to upgrade ")};
  read.expected = line;
}

}  // namespace

std::vector<Case> read_corpus(const std::string& path) {
  std::ifstream file(path);
  std::vector<Case> cases;
  std::string raw;
  for (int number = 1; std::getline(file, raw); ++number) {
    const std::string line(trimmed(raw));
    if (line.empty() || line.front() == '#') continue;
    try {
      if (line.front() == '[' && line.back() == ']') {
        cases.push_back({.name = line.substr(1, line.size() - 2),
                         .side = {},
                         .context = {},
                         .expected = {},
                         .node = {},
                         .bytes = {},
                         .marks = {}});
      } else if (cases.empty()) {
        throw std::runtime_error("bytes before the first name");
      } else if (Case& last = cases.back(); last.expected.empty()) {
        read_expectation(last, line);
      } else if (line.starts_with("node: ")) {
        last.node = line.substr(6);
      } else if (line == "--") {
        last.marks.push_back(last.bytes.size());
      } else {
        last.bytes += Unescape(line).read();
      }
    } catch (const std::exception& error) {
      throw std::runtime_error(path + ":" + std::to_string(number) + ": " + error.what());
    }
  }
  if (cases.empty()) throw std::runtime_error(path + " holds no case");
  return cases;
}

}  // namespace relayd::http
