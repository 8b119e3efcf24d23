#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "control/relayctl/exit_code.h"

namespace relayd::relayctl {

// To standard output, at once.
void print(const std::vector<std::string>& lines);
// One JSON document: indented for eyes on a terminal, one line else or where `one_line` asks.
void print_json(std::string_view json, bool one_line = false);
// The ending's message, to standard error; with `json` also as an error document on standard output, so that
// there is always exactly one (an ending without a message has printed its own). Returns its exit code.
int print_ending(const Ending& ending, bool json);

}  // namespace relayd::relayctl
