#pragma once

#include <array>
#include <cstdint>
#include <string_view>

namespace relayd::load {

constexpr std::array<std::uint32_t, 256> make_crc32_table() {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t i = 0; i < table.size(); ++i) {
    std::uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) value = (value & 1U) != 0 ? 0xedb88320U ^ (value >> 1U) : value >> 1U;
    table[i] = value;
  }
  return table;
}
inline constexpr std::array<std::uint32_t, 256> kCrc32Table = make_crc32_table();

// CRC-32 as zlib computes it, so that apps in any language can answer with it.
class Crc32 {
 public:
  void add(std::string_view bytes) {
    for (const char byte : bytes) {
      state_ = kCrc32Table[(state_ ^ static_cast<unsigned char>(byte)) & 0xffU] ^ (state_ >> 8U);
    }
  }
  std::uint32_t value() const { return ~state_; }

 private:
  std::uint32_t state_ = 0xffffffffU;
};

}  // namespace relayd::load
