#include "proxy/config/template.h"

#include <algorithm>

#include "proxy/config/loader.h"
#include "proxy/config/words.h"

namespace relayd::config {

const std::vector<std::string_view>& template_names() {
  static const std::vector<std::string_view> names = {"host",   "port",       "address",
                                                      "socket", "generation", "instance"};
  return names;
}

Result<std::string> expand_template(std::string_view text, const TemplateValue& value) {
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (c != '{' && c != '}') {
      out.push_back(c);
      continue;
    }
    if (i + 1 < text.size() && text[i + 1] == c) {
      out.push_back(c);
      ++i;
      continue;
    }
    const std::string place = " at character " + std::to_string(i + 1) + " of " + in_quotes(text);
    if (c == '}') return fail("a lone '}'" + place + ": write }} for a literal brace");
    const std::size_t end = text.find_first_of("{}", i + 1);
    if (end == std::string_view::npos || text[end] == '{') {
      return fail("the '{'" + place + " is never closed: write {{ for a literal brace");
    }
    const std::string_view name = text.substr(i + 1, end - i - 1);
    const auto& known = template_names();
    if (std::ranges::find(known, name) == known.end()) {
      const std::string meant = nearest(name, known);
      return fail("unknown template {" + std::string(name.substr(0, 40)) + "}" + place +
                  (meant.empty() ? "" : "; did you mean {" + meant + "}?") + ": there are {" +
                  "host}, {port}, {address}, {socket}, {generation} and {instance}; write {{ for a " +
                  "literal brace");
    }
    auto replacement = value(name);
    if (!replacement) return fail(replacement.error().message + place, replacement.error().code);
    out += *replacement;
    i = end;
  }
  return out;
}

}  // namespace relayd::config
