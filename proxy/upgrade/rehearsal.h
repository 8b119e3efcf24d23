#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "proxy/backend/child.h"
#include "proxy/backend/output_tail.h"
#include "proxy/base/loop.h"

namespace relayd::upgrade {

// The new executable, started aside with a copy of the state and the arguments of this process: it has to say
// that it can read both, and the configuration as it is now. Nothing else is touched. A process that says
// nothing within kPatience is killed. Main thread.
class Rehearsal {
 public:
  static constexpr Duration kPatience{10'000};

  struct Verdict {
    Result<std::string> version;     // of the new executable, or why it will not do
    std::uint32_t newest_state = 0;  // the newest version of the state that it reads; 0: it has not said
  };
  // `done` runs on the loop, once. The rehearsal
  // may be destroyed inside it, and before: the process is killed then. `path` is how the image is told.
  static Result<std::unique_ptr<Rehearsal>> start(Loop& loop, backend::Keeper& keeper, int image,
                                                  const std::string& path, int state,
                                                  std::function<void(const Verdict&)> done);

 private:
  Rehearsal(Loop& loop, std::string path, std::function<void(const Verdict&)> done)
      : path_(std::move(path)), done_(std::move(done)), limit_(loop) {}
  void on_exit(const backend::ExitReport& report);

  const std::string path_;
  const std::function<void(const Verdict&)> done_;
  bool too_late_ = false;
  std::unique_ptr<backend::OutputTail> words_;   // its standard output
  std::unique_ptr<backend::OutputTail> errors_;  // its standard error
  Timer limit_;
  std::unique_ptr<backend::Child> child_;
};

// The other side, in the new executable: true where it was started for a rehearsal, with the descriptor of
// the state. The variable that says so is taken out of the environment.
bool is_rehearsal(int& state);
// Reads the state and says so on standard output, with its own pid: what only starts another program, as a
// wrapper script may, cannot take a process over. Gives the exit code. What is wrong goes to standard error.
// `newest_state`: up to which version it is read.
int rehearse(int state, std::string_view version, std::uint32_t newest_state);

}  // namespace relayd::upgrade
