#pragma once

#include <string>
#include <string_view>

#include "proxy/base/error.h"
#include "proxy/config/config.h"

// A configuration as text of the file's own language, and back, for what must outlive this process: the text
// needs no version of its own, as a newer relayd reads what an older one reads. Whatever a configuration can
// hold comes back the same. Members equal to their default are left out.
namespace relayd::config {

std::string write_config(const Config& config);
// A document with this one service.
std::string write_service(const Service& service);

// Names and types are read as the loader reads them, and nothing is checked beyond: what runs was checked
// when it was new, and what it named may have gone since. The error is the first fault with its place. Never
// throw.
Result<Config> read_written(std::string_view text);
Result<Service> read_written_service(std::string_view text);

}  // namespace relayd::config
