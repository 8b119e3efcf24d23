#pragma once

#include <cstddef>
#include <map>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

// Writes YAML that parse_document() reads as the same: one key a line, text in double quotes and in ASCII.
namespace relayd::config {

// The text as a scalar that is never anything else: "no", "5" and "" stay text, and any byte but zero comes
// back.
std::string as_text(std::string_view text);

class Emitter {
 public:
  // `key` and `value` are scalars as the file writes them: names of ours, numbers, or from as_text().
  void line(std::string_view key, std::string_view value) {
    put_key(key);
    text_.append(" ").append(value).append("\n");
  }

  // The lines that `body` writes, one level further in.
  template <typename Body>
  void section(std::string_view key, Body body) {
    put_key(key);
    const std::size_t start = text_.size();
    text_.append("\n");
    ++depth_;
    body();
    --depth_;
    if (text_.size() == start + 1) text_.replace(start, 1, " {}\n");
  }

  // The same; nothing at all where `body` writes nothing.
  template <typename Body>
  void section_if_filled(std::string_view key, Body body) {
    const std::size_t start = text_.size();
    bool filled = false;
    section(key, [&] {
      const std::size_t inside = text_.size();
      body();
      filled = text_.size() > inside;
    });
    if (!filled) text_.resize(start);
  }

  // The document.
  std::string text() && { return text_.empty() ? "{}\n" : std::move(text_); }

 private:
  void put_key(std::string_view key);

  std::string text_;
  std::size_t depth_ = 0;
};

void write(Emitter& emitter, std::string_view key, const std::string& value);
void write(Emitter& emitter, std::string_view key, bool value);
void write(Emitter& emitter, std::string_view key, const std::vector<std::string>& value);
void write(Emitter& emitter, std::string_view key, const std::map<std::string, std::string>& value);

}  // namespace relayd::config
