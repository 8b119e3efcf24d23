#pragma once

#include "proxy/config/config.h"
#include "proxy/config/reader.h"

namespace relayd::config {

// Reads the root of a document. Faults are the reader's; what could not be read keeps its default.
void read_config(Reader& reader, const Node& root, Config& config);

}  // namespace relayd::config
