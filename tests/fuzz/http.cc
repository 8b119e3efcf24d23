// libFuzzer's entry to the tracker: aborts where a property of properties.h is broken, and tells which. The
// seeds are the messages of corpus.txt, which the mutator brings in now and then.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>

#include "tests/http/corpus.h"
#include "tests/http/properties.h"

extern "C" std::size_t LLVMFuzzerMutate(std::uint8_t* data, std::size_t size, std::size_t most);

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string broken = relayd::http::broken_property({reinterpret_cast<const char*>(data), size});
  if (!broken.empty()) {
    std::fprintf(stderr, "broken: %s\n", broken.c_str());
    std::abort();
  }
  return 0;
}

extern "C" std::size_t LLVMFuzzerCustomMutator(std::uint8_t* data, std::size_t size, std::size_t most,
                                               unsigned seed) {
  static const auto cases = relayd::http::read_corpus(RELAYD_HTTP_CORPUS);
  constexpr unsigned kSeldom = 64;
  if (size < 2 || seed % kSeldom == 0) {
    const auto& one = cases[seed / kSeldom % cases.size()];
    if (one.bytes.size() < most) {
      data[0] =
          static_cast<std::uint8_t>(seed >> 24U << 1U) | (one.side == relayd::http::Side::kResponse ? 1 : 0);
      std::copy(one.bytes.begin(), one.bytes.end(), data + 1);
      size = one.bytes.size() + 1;
    }
  }
  return LLVMFuzzerMutate(data, size, most);
}
