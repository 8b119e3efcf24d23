#pragma once

#include <cstddef>
#include <string>
#include <vector>

#include "tests/http/follower.h"

namespace relayd::http {

// A case of corpus.txt; the form is told there.
struct Case {
  std::string name;
  Side side;
  RequestContext context;          // of responses
  std::string expected;            // as Follower tells the first message, without the side
  std::string node;                // why node refuses what is accepted here; empty: it does not
  std::string bytes;               // of the whole stream
  std::vector<std::size_t> marks;  // where messages end, or a body is refused
};

// Throws std::runtime_error with the line where the file is not in its form.
std::vector<Case> read_corpus(const std::string& path);

}  // namespace relayd::http
