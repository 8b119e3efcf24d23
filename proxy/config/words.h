#pragma once

#include <string>
#include <string_view>
#include <vector>

// The words of fault messages.
namespace relayd::config {

// The smallest configuration, for messages that ask for one.
inline constexpr char kExample[] =
    "services: {web: {listen: [\":8080\"], backend: {command: [gunicorn, \"app:app\", --bind, "
    "\"{address}\"]}}}";

// 'text', fit for a terminal and for one line: control characters written as \xNN, cut after about 60 bytes.
std::string in_quotes(std::string_view text);

// "a, b or c"
std::string list_of(const std::vector<std::string_view>& words);

// " (a, b or c), not 'd'; did you mean 'c'?"
std::string expected_one_of(std::string_view text, const std::vector<std::string_view>& known);

}  // namespace relayd::config
