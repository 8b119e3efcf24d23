#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "proxy/base/error.h"

// Templates in commands and environments: "{port}" stands for a value; "{{" and "}}" are literal braces.
namespace relayd::config {

// Every name that a template can have; which of them have a value depends on backend.address.
const std::vector<std::string_view>& template_names();

// The value of a name, or why there is none.
using TemplateValue = std::function<Result<std::string>(std::string_view name)>;

// The text with its templates replaced. The error names the character (from 1) of a brace that does not
// close, a lone
// "}", an unknown name, or passes on what `value` said.
Result<std::string> expand_template(std::string_view text, const TemplateValue& value);

}  // namespace relayd::config
