#include "control/relayctl/terminal.h"

#include <langinfo.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace relayd::relayctl {
namespace {

winsize window() {
  winsize size{};
  if (::ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) != 0) return {};
  return size;
}

void put(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

}  // namespace

bool on_terminal() {
  const char* term = std::getenv("TERM");
  return ::isatty(STDOUT_FILENO) == 1 && term != nullptr && *term != '\0' && std::strcmp(term, "dumb") != 0;
}

Style terminal_style() {
  Style style;
  const char* no_colour = std::getenv("NO_COLOR");
  style.colour = on_terminal() && (no_colour == nullptr || *no_colour == '\0');
  style.unicode = std::strcmp(::nl_langinfo(CODESET), "UTF-8") == 0;
  if (::isatty(STDOUT_FILENO) == 1) style.width = window().ws_col;
  return style;
}

std::size_t terminal_height() { return window().ws_row; }

LiveBlock::LiveBlock() { put("\x1b[?25l"); }

LiveBlock::~LiveBlock() { put("\x1b[?25h"); }

void LiveBlock::draw(const std::vector<std::string>& lines) {
  // One write: up to the first line, each line and what is left of the old one, then everything below.
  std::string out = drawn_ > 0 ? "\x1b[" + std::to_string(drawn_) + "A\r" : "\r";
  for (const std::string& line : lines) out += line + "\x1b[K\n";
  out += "\x1b[J";
  drawn_ = lines.size();
  put(out);
}

}  // namespace relayd::relayctl
