#pragma once

#include <string>

#include "proxy/rollover/machine.h"
#include "proxy/rollover/report.h"

// How what happens is told to people. Pure.
namespace relayd::rollover {

Happening describe(const action::Note& note);
// `serves`: the generation that serves now; 0: none.
Happening describe(const Report& report, GenerationNumber serves);

std::string first_line(const std::string& text);

}  // namespace relayd::rollover
