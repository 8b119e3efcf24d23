#pragma once

#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <string_view>

// The character classes of RFC 9110 and 9112, and searches over them.
namespace relayd::http {

constexpr bool is_digit(char c) { return c >= '0' && c <= '9'; }
constexpr bool is_upper(char c) { return c >= 'A' && c <= 'Z'; }
constexpr bool is_alpha(char c) { return is_upper(c) || (c >= 'a' && c <= 'z'); }
constexpr char to_lower(char c) { return is_upper(c) ? static_cast<char>(c | 0x20) : c; }
constexpr bool is_blank(char c) { return c == ' ' || c == '\t'; }  // OWS: RFC 9110 5.6.3

enum CharacterClass : std::uint8_t {
  kTokenChar = 1,   // tchar: RFC 9110 5.6.2
  kHostChar = 2,    // what uri-host [ ":" port ] is made of: RFC 3986 3.2.2, 3.2.3
  kValueChar = 4,   // HTAB, SP, VCHAR and obs-text: RFC 9110 5.5
  kTargetChar = 8,  // neither white space nor a control byte; obs-text too, which clients do send
  kPathChar = 16,   // of a path and a query as they should be: RFC 3986 3.3, 3.4
};

inline constexpr auto kClasses = [] {
  std::array<std::uint8_t, 256> classes{};
  for (unsigned i = 0; i < classes.size(); ++i) {
    const char c = static_cast<char>(i);
    const auto in = [c](std::string_view set) { return set.find(c) != std::string_view::npos; };
    const bool plain = is_alpha(c) || is_digit(c);
    if (plain || in("!#$%&'*+-.^_`|~")) classes[i] |= kTokenChar;
    if (plain || in("-._~%!$&'()*+,;=:[]")) classes[i] |= kHostChar;
    if (c == '\t' || (i >= 0x20 && i != 0x7f)) classes[i] |= kValueChar;
    if (i > 0x20 && i != 0x7f) classes[i] |= kTargetChar;
    if (plain || in("-._~%!$&'()*+,;=:@/?")) classes[i] |= kPathChar;
  }
  return classes;
}();

constexpr bool is_a(CharacterClass wanted, char c) {
  return kClasses[static_cast<unsigned char>(c)] & wanted;
}

// The position of the first byte that is not of the class, or the size.
constexpr std::size_t span_of(CharacterClass wanted, std::string_view text) {
  std::size_t at = 0;
  while (at < text.size() && is_a(wanted, text[at])) ++at;
  return at;
}

namespace words {  // eight bytes at once

inline constexpr std::uint64_t kOnes = 0x0101010101010101;
inline constexpr std::uint64_t kHighs = 0x8080808080808080;

// Not 0 if any byte is below `limit` (at most 0x80) or is DEL. The lowest bit that is set is the high bit of
// the lowest such byte; above it, a borrow may have set others.
constexpr std::uint64_t below_or_delete(std::uint64_t word, unsigned limit) {
  const std::uint64_t deletes = word ^ (kOnes * 0x7f);
  return ((word - kOnes * limit) | (deletes - kOnes)) & ~word & kHighs;
}

inline std::uint64_t load(const char* from) {
  std::uint64_t word;
  std::memcpy(&word, from, sizeof word);
  return word;
}

// span_of for a class that holds every byte from `limit` on, but DEL.
inline std::size_t span_of(CharacterClass wanted, unsigned limit, std::string_view text) {
  std::size_t at = 0;
  while (at + 8 <= text.size()) {
    const std::uint64_t found = below_or_delete(load(text.data() + at), limit);
    if (found == 0) {
      at += 8;
      continue;
    }
    if constexpr (std::endian::native == std::endian::little) {
      at += static_cast<unsigned>(std::countr_zero(found)) / 8;
      if (!is_a(wanted, text[at])) return at;
      ++at;  // a tab
    } else {
      const std::size_t within = http::span_of(wanted, text.substr(at, 8));
      at += within;
      if (within < 8) return at;
    }
  }
  text.remove_prefix(at);
  return at + http::span_of(wanted, text);
}

// The high bit of each byte that is neither a letter of ASCII nor "-".
constexpr std::uint64_t not_letter_or_hyphen(std::uint64_t word) {
  // Sums of seven bits, which do not carry over to the next byte; bytes from 0x80 are told apart by their
  // own.
  const std::uint64_t seven = word & ~kHighs;
  const std::uint64_t lower = seven | kOnes * 0x20;
  const std::uint64_t from_a = lower + kOnes * (0x80 - 'a');
  const std::uint64_t above_z = lower + kOnes * (0x7f - 'z');
  const std::uint64_t no_hyphen = (seven ^ kOnes * '-') + kOnes * 0x7f;
  return ((~from_a | above_z) & no_hyphen & kHighs) | (word & kHighs);
}

}  // namespace words

// A field's name: most are made of letters and hyphens.
inline std::size_t span_of_name(std::string_view text) {
  std::size_t at = 0;
  for (; at + 8 <= text.size(); at += 8) {
    const std::uint64_t found = words::not_letter_or_hyphen(words::load(text.data() + at));
    if (found == 0) continue;
    if constexpr (std::endian::native == std::endian::little)
      at += static_cast<unsigned>(std::countr_zero(found)) / 8;
    break;
  }
  text.remove_prefix(at);
  return at + span_of(kTokenChar, text);
}
inline std::size_t span_of_value(std::string_view text) { return words::span_of(kValueChar, 0x20, text); }
inline std::size_t span_of_target(std::string_view text) { return words::span_of(kTargetChar, 0x21, text); }

// `lower` is in lower case; `text` in any.
constexpr bool equals_ignoring_case(std::string_view text, std::string_view lower) {
  if (text.size() != lower.size()) return false;
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (to_lower(text[i]) != lower[i]) return false;
  }
  return true;
}

// The same for a name: letters and hyphens in `lower`, nothing but kTokenChar in `text`, so that a bit
// decides.
inline bool is_name(std::string_view text, std::string_view lower) {
  if (text.size() != lower.size()) return false;
  constexpr std::uint64_t kLower = words::kOnes * 0x20;
  const auto same = [&](std::size_t at) {
    return (words::load(text.data() + at) | kLower) == words::load(lower.data() + at);
  };
  if (text.size() < 8) return equals_ignoring_case(text, lower);
  for (std::size_t at = 0; at + 8 < text.size(); at += 8) {
    if (!same(at)) return false;
  }
  return same(text.size() - 8);
}

constexpr std::string_view trimmed(std::string_view text) {
  while (!text.empty() && is_blank(text.front())) text.remove_prefix(1);
  while (!text.empty() && is_blank(text.back())) text.remove_suffix(1);
  return text;
}

}  // namespace relayd::http
