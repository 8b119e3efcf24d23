#pragma once

#include <sys/types.h>

#include <cstddef>
#include <functional>
#include <vector>

// The processes that relayd itself has started and not yet reaped: waitid(2) is one queue for the whole
// process, so whoever reaps orphans has to know which of the dead are not orphans. Main thread only.
namespace relayd::backend::own_children {

// `reap` is called when the process is known to have ended and its owner has not noticed yet: it has to reap
// it, and to remove() it.
void add(pid_t pid, std::function<void()> reap);
void remove(pid_t pid);
bool contains(pid_t pid);
// Lets the owner reap it. False where it is nobody's.
bool reap(pid_t pid);
std::vector<pid_t> all();
std::size_t count();

}  // namespace relayd::backend::own_children
