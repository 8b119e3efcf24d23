#pragma once

#include "proxy/upgrade/record.h"

namespace relayd::upgrade::test {

// A state with something of everything, that could be one: what is written down of each version (states/),
// and the seed of the fuzz target.
Record sample_record();

}  // namespace relayd::upgrade::test
