#include "proxy/config/emitter.h"

#include "proxy/base/utf8.h"
#include "proxy/config/document.h"

namespace relayd::config {
namespace {

// YAML 1.2, section 7.4: a key without "?" has at most 1024 characters.
constexpr std::size_t kLongestKey = 1000;

bool is_utf8(std::string_view text) {
  while (!text.empty()) {
    const std::size_t length = utf8_length(text);
    if (length == 0) return false;
    text.remove_prefix(length);
  }
  return true;
}

// \xNN, \uNNNN or \UNNNNNNNN
void put_escaped(std::string& out, unsigned long code) {
  constexpr char kHex[] = "0123456789abcdef";
  const int digits = code <= 0xFF ? 2 : code <= 0xFFFF ? 4 : 8;
  out.append(digits == 2 ? "\\x" : digits == 4 ? "\\u" : "\\U");
  for (int i = digits - 1; i >= 0; --i) out.push_back(kHex[code >> (4 * i) & 15U]);
}

// The code point of a whole character.
unsigned long code_of(std::string_view character) {
  unsigned long code = static_cast<unsigned char>(character[0]);
  if (character.size() > 1) code &= 0x7FUL >> character.size();
  for (const char c : character.substr(1)) code = code << 6 | (static_cast<unsigned char>(c) & 0x3FU);
  return code;
}

}  // namespace

std::string as_text(std::string_view text) {
  const bool characters = is_utf8(text);
  std::string out = characters ? "\"" : std::string(kBytesTag) + " \"";
  for (std::size_t i = 0; i < text.size();) {
    const std::size_t length = characters ? utf8_length(text.substr(i)) : 1;
    const unsigned long code = code_of(text.substr(i, length));
    i += length;
    if (code == '"' || code == '\\') {
      out.append("\\").push_back(static_cast<char>(code));
    } else if (code < 0x20 || code >= 0x7F) {
      put_escaped(out, code);
    } else {
      out.push_back(static_cast<char>(code));
    }
  }
  return out.append("\"");
}

void Emitter::put_key(std::string_view key) {
  const std::string indent(2 * depth_, ' ');
  text_.append(indent);
  if (key.size() > kLongestKey) {
    text_.append("? ").append(key).append("\n").append(indent);
  } else {
    text_.append(key);
  }
  text_.append(":");
}

void write(Emitter& emitter, std::string_view key, const std::string& value) {
  emitter.line(key, as_text(value));
}

void write(Emitter& emitter, std::string_view key, bool value) {
  emitter.line(key, value ? "true" : "false");
}

void write(Emitter& emitter, std::string_view key, const std::vector<std::string>& value) {
  std::string list;
  for (const std::string& item : value) list.append(list.empty() ? "" : ", ").append(as_text(item));
  emitter.line(key, "[" + list + "]");
}

void write(Emitter& emitter, std::string_view key, const std::map<std::string, std::string>& value) {
  emitter.section(key, [&] {
    for (const auto& [name, entry] : value) emitter.line(as_text(name), as_text(entry));
  });
}

}  // namespace relayd::config
