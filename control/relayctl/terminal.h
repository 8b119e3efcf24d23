#pragma once

#include <string>
#include <vector>

#include "control/relayctl/text.h"

namespace relayd::relayctl {

// Whether standard output is a terminal that can move its cursor (TERM is set and not "dumb").
bool on_terminal();
// Of standard output: colour unless NO_COLOR is set, UTF-8 signs where the locale has them, its present
// width.
Style terminal_style();
// Rows of the terminal; 0 where unknown.
std::size_t terminal_height();

// A few lines at the bottom of a terminal that are drawn again and again, in place and without flicker. Hides
// the cursor while it lives. Lines must not be wider than the terminal.
class LiveBlock {
 public:
  LiveBlock();
  ~LiveBlock();  // leaves the last lines standing
  LiveBlock(const LiveBlock&) = delete;
  LiveBlock& operator=(const LiveBlock&) = delete;
  void draw(const std::vector<std::string>& lines);
  // Takes the lines away again.
  void clear() { draw({}); }

 private:
  std::size_t drawn_ = 0;
};

}  // namespace relayd::relayctl
