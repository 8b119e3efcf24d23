#pragma once

#include <string>
#include <string_view>

namespace relayd::http {

// What must hold for any bytes, told to the tracker as one side of a connection; shared by the tests and the
// fuzzer. The first byte chooses the side, what the response is to, and where the rest is split. Empty, or
// what was broken.
std::string broken_property(std::string_view input);

}  // namespace relayd::http
