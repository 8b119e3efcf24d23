#pragma once

#include <cstddef>
#include <string_view>

namespace relayd {

// The length of the UTF-8 character at the front of a text that is not empty, or 0 where there is none (RFC
// 3629: overlong forms, surrogates and what lies above U+10FFFF are none).
std::size_t utf8_length(std::string_view text);

}  // namespace relayd
