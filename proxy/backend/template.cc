#include "proxy/backend/template.h"

#include "proxy/config/template.h"

namespace relayd::backend {

Result<std::string> expand(std::string_view text, const TemplateValues& values) {
  return config::expand_template(text, [&values](std::string_view name) -> Result<std::string> {
    if (const auto found = values.find(name); found != values.end()) return found->second;
    std::string names;
    for (const auto& [known, value] : values) names += " {" + known + "}";
    return fail("{" + std::string(name) +
                "} has no value with this backend.address (these have one:" + names + ")");
  });
}

std::string escape_template(std::string_view text) {
  std::string out;
  for (const char c : text) out.append(c == '{' || c == '}' ? 2 : 1, c);
  return out;
}

}  // namespace relayd::backend
