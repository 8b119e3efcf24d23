// What another image of relayd is said to have left: it is refused, or can be written again and read the
// same.
#include <cstddef>
#include <cstdint>
#include <string>

#include "proxy/upgrade/record.h"
#include "tests/fuzz/expect.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace relayd::upgrade;
  const auto read = decode(std::string(reinterpret_cast<const char*>(data), size));
  if (!read) return 0;
  const std::string written = encode(*read);
  const auto again = decode(written);
  relayd::fuzz::expect(again.has_value(), "what was read can be written and read");
  relayd::fuzz::expect(encode(*again) == written, "and stays the same");
  return 0;
}
