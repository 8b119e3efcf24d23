#pragma once

#include <map>
#include <string>
#include <string_view>

#include "proxy/base/error.h"

namespace relayd::backend {

// The templates that have a value for one instance: "port" -> "61004". Their notation is config/template.h's.
using TemplateValues = std::map<std::string, std::string, std::less<>>;

// The error quotes `text`; for a template without a value here it says which ones have one.
Result<std::string> expand(std::string_view text, const TemplateValues& values);

// The template that expands to `text` itself: every brace doubled.
std::string escape_template(std::string_view text);

}  // namespace relayd::backend
