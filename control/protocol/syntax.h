#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace relayd::control {

// Deeper than any message of the protocol goes; bounds the recursion of those who walk a document.
inline constexpr int kDeepest = 16;

// Why `text` is not to be read as JSON, or nothing: broken syntax, bytes that are not UTF-8, nesting past
// kDeepest, a key given twice (readers would disagree on which one counts), a NUL in a string (C would cut it
// there), a number that fits no type. Looks before anything is built.
std::optional<std::string> syntax_problem(std::string_view text);

}  // namespace relayd::control
