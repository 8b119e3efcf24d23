#pragma once

#include <charconv>
#include <cstdint>
#include <cstdio>
#include <optional>
#include <string>
#include <string_view>

// The little of HTTP/1.1 that a test's client and a test's app both need.
namespace relayd::load {

// The value of a header in a head (everything up to the empty line), or nothing. Names compare without case.
inline std::optional<std::string_view> header(std::string_view head, std::string_view name) {
  const auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; };
  std::size_t line = head.find("\r\n");
  while (line != std::string_view::npos && line + 2 < head.size()) {
    line += 2;
    const std::size_t end = std::min(head.find("\r\n", line), head.size());
    const std::string_view text = head.substr(line, end - line);
    bool same = text.size() > name.size() && text[name.size()] == ':';
    for (std::size_t i = 0; same && i < name.size(); ++i) same = lower(text[i]) == lower(name[i]);
    if (same) {
      std::string_view value = text.substr(name.size() + 1);
      while (value.starts_with(' ')) value.remove_prefix(1);
      while (value.ends_with(' ')) value.remove_suffix(1);
      return value;
    }
    line = end < head.size() ? end : std::string_view::npos;
  }
  return std::nullopt;
}

inline std::optional<std::uint64_t> number(std::optional<std::string_view> text) {
  std::uint64_t value = 0;
  if (!text || text->empty()) return std::nullopt;
  const auto [end, failure] = std::from_chars(text->data(), text->data() + text->size(), value);
  if (failure != std::errc{} || end != text->data() + text->size()) return std::nullopt;
  return value;
}

inline std::string hex8(std::uint32_t value) {
  char text[9];
  std::snprintf(text, sizeof text, "%08x", value);
  return text;
}

}  // namespace relayd::load
