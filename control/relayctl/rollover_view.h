#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "control/protocol/messages.h"
#include "control/relayctl/text.h"

// How a rollover looks while it runs and when it is over. Pure: status reports in, lines out.
namespace relayd::relayctl {

// What is known of the rollover that is waited for.
class RolloverView {
 public:
  // `before` is the service just before the rollover was asked for.
  RolloverView(const control::ServiceStatus& before, const std::optional<std::string>& mode);

  // Each status report moves it on; a step that was passed stays passed.
  void update(const control::ServiceStatus& now);
  // The block to draw: headline with elapsed time, steps, one line with a bar per generation. `frame` turns
  // the spinner.
  std::vector<std::string> lines(std::int64_t elapsed_ms, unsigned frame, const Style& style) const;

  const std::string& service() const { return now_.name; }

 private:
  struct Step {
    std::string name;
    bool passed = false;
  };
  void pass(std::size_t count);
  std::string bar_line(const control::GenerationStatus& generation, const Style& style) const;

  control::ServiceStatus now_;
  std::string mode_;
  std::uint32_t newest_before_ = 0;
  std::uint32_t serving_before_ = 0;
  std::uint64_t most_connections_ = 1;              // what a full bar stands for
  std::map<std::uint32_t, std::uint64_t> most_of_;  // per generation, seen so far
  std::vector<Step> steps_;
};

// The last word on it: one line where it was done, a block with the whole reason (exit status, last lines of
// stderr, last check) where it failed. `after`: the service as it is now, where known.
std::vector<std::string> result_lines(const control::RolloverResult& result,
                                      const control::ServiceStatus* after, const Style& style);
std::vector<std::string> plan_lines(const control::RolloverResult& result, const Style& style);
std::vector<std::string> reload_lines(const control::ReloadResult& result, const Style& style);

}  // namespace relayd::relayctl
