#pragma once

#include "proxy/config/config.h"
#include "proxy/config/emitter.h"
#include "proxy/config/reader.h"

namespace relayd::config {

// Reads the root of a document. Faults are the reader's; what could not be read keeps its default.
void read_config(Reader& reader, const Node& root, Config& config);
// The root of a document from which read_config() makes the same.
void write_config(Emitter& emitter, const Config& config);

}  // namespace relayd::config
