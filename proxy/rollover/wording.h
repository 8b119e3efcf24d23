#pragma once

#include <string>

#include "proxy/net/data_plane.h"
#include "proxy/rollover/machine.h"
#include "proxy/rollover/report.h"

// How what happens is told to people. Pure.
namespace relayd::rollover {

Happening describe(const action::Note& note);
// `serves`: the generation that serves now; 0: none.
Happening describe(const Report& report, GenerationNumber serves);

// The service's HTTP counts, since it began, among the details.
void add_counts(Happening& happening, const net::ServiceCounts& counts);

std::string first_line(const std::string& text);

}  // namespace relayd::rollover
