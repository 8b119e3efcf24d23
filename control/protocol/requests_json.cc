#include <algorithm>
#include <concepts>
#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "control/protocol/json.h"
#include "control/protocol/members.h"
#include "control/protocol/nearest.h"
#include "control/protocol/syntax.h"

namespace relayd::control {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t kLongestId = 256;  // bytes; an id is echoed, so it must not be a way to store things
constexpr std::size_t kShown = 64;       // bytes of a stranger's word that a message repeats

std::string in_quotes(std::string_view word) {
  return "\"" + std::string(word.substr(0, kShown)) + (word.size() > kShown ? "…" : "") + "\"";
}

std::string with_nearest(const std::string& message, std::string_view word,
                         const std::vector<std::string_view>& names) {
  if (const std::string meant = nearest(word, names); !meant.empty())
    return message + "; is " + in_quotes(meant) + " meant?";
  std::string list;
  for (const std::string_view name : names) list.append(list.empty() ? "" : ", ").append(name);
  return message + (list.empty() ? "; there are none" : "; there are: " + list);
}

// Takes the known members out of `params`; what is left after that is an error.
class ParamsReader {
 public:
  ParamsReader(std::string_view method, const Json& params) : method_(method), params_(params) {}

  void operator()(const char* key, std::string& out) {
    const Json* value = take(key);
    if (value == nullptr) return;
    if (!value->is_string()) return wrong(key, "a string");
    out = value->get<std::string>();
  }
  void operator()(const char* key, bool& out) {
    const Json* value = take(key);
    if (value == nullptr) return;
    if (!value->is_boolean()) return wrong(key, "true or false");
    out = value->get<bool>();
  }
  // The one plain number there is; it must be given.
  void operator()(const char* key, unsigned& out) {
    const Json* value = take(key);
    const auto number = value != nullptr && value->is_number_unsigned() ? value->get<std::uint64_t>() : 0;
    if (number < 1 || number > kMostInstances) {
      return wrong(key, "given, a whole number from 1 to " + std::to_string(kMostInstances));
    }
    out = static_cast<unsigned>(number);
  }
  template <std::unsigned_integral T>
  void operator()(const char* key, std::optional<T>& out) {
    const Json* value = take(key);
    if (value == nullptr) return;
    if (!value->is_number_unsigned() || !std::in_range<T>(value->get<std::uint64_t>())) {
      return wrong(key, "a whole number from 0 to " + std::to_string(std::numeric_limits<T>::max()));
    }
    out = static_cast<T>(value->get<std::uint64_t>());
  }
  // Optional words: only the mode of a rollover so far.
  void operator()(const char* key, std::optional<std::string>& out) {
    const Json* value = take(key);
    if (value == nullptr) return;
    static const std::vector<std::string_view> modes{"phased", "hot", "restart"};
    if (!value->is_string() || std::ranges::find(modes, value->get<std::string>()) == modes.end()) {
      return wrong(key, "\"phased\", \"hot\" or \"restart\"");
    }
    out = value->get<std::string>();
  }
  void operator()(const char* key, std::map<std::string, std::string>& out) {
    const Json* value = take(key);
    if (value == nullptr) return;
    if (!value->is_object()) return wrong(key, "an object of strings");
    for (const auto& [name, text] : value->items()) {
      if (!valid_env_name(name)) {
        return refuse("params." + std::string(key) + ": " + in_quotes(name) +
                      " cannot name an environment variable; use letters, digits and _, no digit first");
      }
      if (!text.is_string()) return wrong((std::string(key) + "." + name).c_str(), "a string");
      out[name] = text.get<std::string>();
    }
  }
  void operator()(const char* key, std::vector<std::string>& out) {
    const Json* value = take(key);
    if (value == nullptr) return;
    const auto text = [](const Json& item) { return item.is_string(); };
    if (!value->is_array() || value->empty() || !std::ranges::all_of(*value, text)) {
      return wrong(key, "an array of strings, at least one");
    }
    out = value->get<std::vector<std::string>>();
  }
  void until(bool& drained) {
    const Json* value = take("until");
    if (value == nullptr) return;
    if (*value != "ready" && *value != "drained") return wrong("until", "\"ready\" or \"drained\"");
    drained = *value == "drained";
  }

  // Empty is no path: a variable that was not set would upgrade to the wrong file.
  void path(const char* key, std::string& out) {
    (*this)(key, out);
    if (params_.contains(key) && out.empty()) wrong(key, "the path of a file");
  }

  std::optional<Failure> finish() {
    if (failure_) return failure_;
    for (const auto& [key, value] : params_.items()) {
      if (std::ranges::find(known_, key) != known_.end()) continue;
      if (method_ == "rollover" && key == "canary") {
        return Failure{ErrorCode::kNotBuilt, "not in this version yet: a rollover with " + in_quotes(key)};
      }
      return Failure{ErrorCode::kInvalidParams,
                     with_nearest(std::string(method_) + " has no parameter " + in_quotes(key), key, known_)};
    }
    return std::nullopt;
  }

 private:
  const Json* take(const char* key) {
    known_.emplace_back(key);
    const auto found = params_.find(key);
    return found == params_.end() ? nullptr : &*found;
  }
  void wrong(const char* key, const std::string& expected) {
    refuse("params." + std::string(key) + " of " + std::string(method_) + " must be " + expected);
  }
  void refuse(std::string message) {
    if (!failure_) failure_ = Failure{ErrorCode::kInvalidParams, std::move(message)};
  }

  std::string_view method_;
  const Json& params_;
  std::vector<std::string_view> known_;
  std::optional<Failure> failure_;
};

template <std::size_t I = 0>
std::expected<Call, Failure> read_call(std::string_view method, const Json& params) {
  if constexpr (I < std::variant_size_v<Call>) {
    if (method_names()[I] != method) return read_call<I + 1>(method, params);
    using T = std::variant_alternative_t<I, Call>;
    T call;
    ParamsReader reader(method, params);
    members(reader, call, static_cast<const T*>(nullptr));
    if (auto failure = reader.finish()) return std::unexpected(std::move(*failure));
    return call;
  } else {
    if (const std::string what = not_built_method(method); !what.empty()) {
      return std::unexpected(Failure{ErrorCode::kNotBuilt, "not in this version yet: " + what});
    }
    return std::unexpected(Failure{ErrorCode::kMethodNotFound,
                                   with_nearest("no method " + in_quotes(method), method, method_names())});
  }
}

// The envelope's faults, before the method is looked at.
std::optional<std::string> envelope_problem(const Json& json) {
  if (json.is_array()) return "batches are not taken: send one request a line; they may overlap";
  if (!json.is_object()) return "a request is a JSON object";
  const auto version = json.find("jsonrpc");
  if (version == json.end() || *version != "2.0") return "\"jsonrpc\" must be \"2.0\"";
  const auto method = json.find("method");
  if (method == json.end() || !method->is_string()) return "\"method\" must be given, as a string";
  for (const auto& [key, value] : json.items()) {
    if (key != "jsonrpc" && key != "method" && key != "id" && key != "params") {
      return with_nearest("a request has no member " + in_quotes(key), key,
                          {"jsonrpc", "method", "id", "params"});
    }
  }
  return std::nullopt;
}

// Writes only what differs from the defaults.
struct ParamsWriter {
  Json object = Json::object();
  void operator()(const char* key, const std::string& value) {
    if (!value.empty()) object[key] = value;
  }
  void operator()(const char* key, bool value) {
    if (value) object[key] = value;
  }
  void operator()(const char* key, unsigned value) { object[key] = value; }
  template <typename T>
  void operator()(const char* key, const std::optional<T>& value) {
    if (value) object[key] = *value;
  }
  void operator()(const char* key, const std::vector<std::string>& value) {
    if (!value.empty()) object[key] = value;
  }
  void operator()(const char* key, const std::map<std::string, std::string>& value) {
    for (const auto& [name, text] : value) object[key][name] = text;
  }
  void path(const char* key, const std::string& value) { (*this)(key, value); }
  void until(bool drained) {
    if (drained) object["until"] = "drained";
  }
};

std::string dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

}  // namespace

std::expected<Request, Refusal> parse_request(std::string_view line) {
  const auto refuse = [](std::string id, ErrorCode code, std::string message) {
    return std::unexpected(Refusal{std::move(id), Failure{code, std::move(message)}});
  };
  if (auto problem = syntax_problem(line))
    return refuse("null", ErrorCode::kParseError, "not read: " + *problem);
  const Json json = Json::parse(line, nullptr, false);

  std::string id = "null";
  const bool object = json.is_object();
  if (const auto found = object ? json.find("id") : json.end(); object && found != json.end()) {
    const bool text = found->is_string() && found->get_ref<const std::string&>().size() <= kLongestId;
    if (!text && !found->is_number_integer() && !found->is_null()) {
      return refuse("null", ErrorCode::kInvalidRequest,
                    "\"id\" must be a whole number, a string of at most 256 bytes, or null");
    }
    id = dump(*found);
  } else if (object && json.contains("method")) {
    id.clear();
  }
  if (auto problem = envelope_problem(json)) {
    return refuse(id.empty() ? "null" : id, ErrorCode::kInvalidRequest, std::move(*problem));
  }

  static const Json none = Json::object();
  const auto params = json.find("params");
  if (params != json.end() && !params->is_object()) {
    return refuse(id, ErrorCode::kInvalidParams, "\"params\" must be an object: parameters go by name");
  }
  auto call =
      read_call(json.find("method")->get_ref<const std::string&>(), params == json.end() ? none : *params);
  if (!call) return std::unexpected(Refusal{std::move(id), std::move(call.error())});
  return Request{std::move(id), std::move(*call)};
}

std::string write_request(std::uint64_t id, const Call& call) {
  Json json{{"jsonrpc", "2.0"}, {"id", id}, {"method", method_name(call)}};
  ParamsWriter writer;
  std::visit([&]<typename T>(const T& params) { members(writer, params, static_cast<const T*>(nullptr)); },
             call);
  if (!writer.object.empty()) json["params"] = std::move(writer.object);
  return dump(json) + "\n";
}

}  // namespace relayd::control
