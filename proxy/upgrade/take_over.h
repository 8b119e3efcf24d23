#pragma once

#include <optional>
#include <string>

#include "proxy/base/error.h"

// The moment in which one image of relayd has given the process to the next one, and that one has not begun
// to work. Until commit() it must touch nothing that the former one would miss: then every failure, whether
// an error, an exception, exit(3), a crash, or no end within kPatience, goes back to the former image, which
// goes on from the same state.
//
//    former image                        next image
//        | hand_over()   exec                |
//        '---------------------------------> | arm(), restore …
//        .---------------------------------- | failed            (go_back)
//        |              exec                 | … commit(): works
//        v
//    restores what it left, and says why it is back
//
namespace relayd::upgrade {

inline constexpr unsigned kPatienceSeconds = 10;

// Of this process, where another image has handed it over.
struct HandedOver {
  int state = -1;                      // memory to read_memory() from
  int former = -1;                     // its image; -1: this is the former one again
  std::optional<std::string> failure;  // why it is
};
// From the environment, which is cleared of it.
std::optional<HandedOver> handed_over();

// For the former image: gives the process away. The state and the image have to be inheritable. Returns only
// where that fails.
Error hand_over(int state, int image, int former);

// Before anything else. There must be no handler for exceptions around what follows until commit(): one that
// nobody catches leaves everything as it is, while one that is caught would have closed what is to be handed
// back.
void arm(const HandedOver& handed);
// Where this is the former image again, there is no way back: the reason is told, and the process ends.
[[noreturn]] void go_back(const char* why);
// Signals come through again, and there is no way back. The memory of the state is closed. What was taken
// over is still inheritable: make_close_on_exec() is next.
void commit(const HandedOver& handed);

}  // namespace relayd::upgrade
