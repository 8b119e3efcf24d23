#pragma once

#include <cstdint>
#include <expected>
#include <string_view>

namespace relayd::http {

// Why a message is not relayed: its boundary is in doubt, or it is not HTTP/1.
struct Refusal {
  std::uint16_t status = 400;  // what relayd answers to the client
  std::string_view reason;     // in words, without a full stop; storage that is never freed
};

template <typename T>
using Verdict = std::expected<T, Refusal>;

inline std::unexpected<Refusal> refuse(std::string_view reason, std::uint16_t status = 400) {
  return std::unexpected(Refusal{status, reason});
}

}  // namespace relayd::http
