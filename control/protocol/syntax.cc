#include "control/protocol/syntax.h"

#include <nlohmann/json.hpp>
#include <set>
#include <vector>

namespace relayd::control {
namespace {

using Json = nlohmann::ordered_json;

// The library's message starts with its own name for it: "[json.exception.parse_error.101] parse error at …".
std::string shortened(std::string text) {
  constexpr std::size_t kEnough = 200;
  if (const std::size_t end = text.find("] "); text.starts_with('[') && end != std::string::npos) {
    text.erase(0, end + 2);
  }
  if (text.size() > kEnough) text.replace(kEnough, std::string::npos, " …");
  return text;
}

struct Checker : nlohmann::json_sax<Json> {
  std::string problem;

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(number_integer_t) override { return true; }
  bool number_unsigned(number_unsigned_t) override { return true; }
  bool number_float(number_float_t, const string_t&) override { return true; }
  bool string(string_t& value) override { return without_nul(value); }
  bool binary(binary_t&) override { return refuse("binary data"); }
  bool start_object(std::size_t) override { return deeper(); }
  bool key(string_t& name) override {
    if (!without_nul(name)) return false;
    if (!keys_.back().insert(name).second)
      return refuse("the key \"" + shortened(name) + "\" is given twice");
    return true;
  }
  bool end_object() override { return keys_.pop_back(), true; }
  bool start_array(std::size_t) override { return deeper(); }
  bool end_array() override { return keys_.pop_back(), true; }
  bool parse_error(std::size_t, const std::string&, const nlohmann::detail::exception& error) override {
    return refuse(shortened(error.what()));
  }

 private:
  bool refuse(std::string why) {
    problem = std::move(why);
    return false;
  }
  bool without_nul(const std::string& text) {
    return text.find('\0') == std::string::npos || refuse("a string holds a NUL character");
  }
  bool deeper() {
    keys_.emplace_back();
    return keys_.size() <= kDeepest || refuse("nested deeper than " + std::to_string(kDeepest) + " levels");
  }

  std::vector<std::set<std::string>> keys_;  // one set per object or array that is open
};

}  // namespace

std::optional<std::string> syntax_problem(std::string_view text) {
  Checker checker;
  if (Json::sax_parse(text, &checker)) return std::nullopt;
  return checker.problem.empty() ? "not valid JSON" : checker.problem;
}

}  // namespace relayd::control
