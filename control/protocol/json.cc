#include "control/protocol/json.h"

#include <concepts>
#include <limits>
#include <nlohmann/json.hpp>
#include <type_traits>

#include "control/protocol/members.h"
#include "control/protocol/syntax.h"

namespace relayd::control {
namespace {

using Json = nlohmann::ordered_json;

template <typename T>
concept Number = std::integral<T> && !std::same_as<T, bool>;

// --- Writing
// -------------------------------------------------------------------------------------------------------

template <typename T>
Json to_json(const T& value);

struct Writer {
  Json object = Json::object();
  template <typename T>
  void operator()(const char* key, const T& value) {
    object[key] = to_json(value);
  }
};

template <typename T>
Json list_to_json(const std::vector<T>& values) {
  Json list = Json::array();
  for (const T& value : values) list.push_back(to_json(value));
  return list;
}
template <typename T>
struct Wrapped {
  static Json write(const T& value) {
    Writer writer;
    members(writer, value, static_cast<const T*>(nullptr));
    return std::move(writer.object);
  }
};
template <typename T>
struct Wrapped<std::optional<T>> {
  static Json write(const std::optional<T>& value) { return value ? to_json(*value) : Json(nullptr); }
};
template <typename T>
struct Wrapped<std::vector<T>> {
  static Json write(const std::vector<T>& value) { return list_to_json(value); }
};
template <>
struct Wrapped<std::map<std::string, std::string>> {
  static Json write(const std::map<std::string, std::string>& value) {
    Json object = Json::object();
    for (const auto& [key, text] : value) object[key] = text;
    return object;
  }
};

template <typename T>
Json to_json(const T& value) {
  if constexpr (std::is_arithmetic_v<T> || std::same_as<T, std::string>) {
    return Json(value);
  } else {
    return Wrapped<T>::write(value);
  }
}

std::string text_of(const Json& json, int indent = -1) {
  return json.dump(indent, ' ', false, Json::error_handler_t::replace);
}

// `id` is JSON text that parse_request() wrote itself.
template <typename T>
std::string reply_line(const std::string& id, const char* member, const T& value) {
  return R"({"jsonrpc":"2.0","id":)" + (id.empty() ? "null" : id) + ",\"" + member +
         "\":" + text_of(to_json(value)) + "}\n";
}

// --- Reading
// -------------------------------------------------------------------------------------------------------

// Each returns an empty string, or what is wrong with the value.
template <typename T>
std::string read(const Json& json, T& out);

struct Reader {
  const Json& object;
  std::string problem;
  template <typename T>
  void operator()(const char* key, T& out) {
    if (!problem.empty()) return;
    const auto found = object.find(key);
    if (found == object.end()) return;
    if (const std::string wrong = read(*found, out); !wrong.empty())
      problem = std::string(key) + ": " + wrong;
  }
};

std::string read_one(const Json& json, std::string& out) {
  if (!json.is_string()) return "must be a string";
  out = json.get<std::string>();
  return {};
}
std::string read_one(const Json& json, bool& out) {
  if (!json.is_boolean()) return "must be true or false";
  out = json.get<bool>();
  return {};
}
template <Number T>
std::string read_one(const Json& json, T& out) {
  if (json.is_number_unsigned() && std::in_range<T>(json.get<std::uint64_t>())) {
    out = static_cast<T>(json.get<std::uint64_t>());
  } else if (json.is_number_integer() && !json.is_number_unsigned() &&
             std::in_range<T>(json.get<std::int64_t>())) {
    out = static_cast<T>(json.get<std::int64_t>());
  } else {
    return "must be a whole number from " + std::to_string(std::numeric_limits<T>::min()) + " to " +
           std::to_string(std::numeric_limits<T>::max());
  }
  return {};
}
std::string read_one(const Json& json, std::map<std::string, std::string>& out) {
  if (!json.is_object()) return "must be an object";
  for (const auto& [key, value] : json.items()) {
    if (!value.is_string()) return key + ": must be a string";
    out[key] = value.get<std::string>();
  }
  return {};
}
template <typename T>
std::string read_one(const Json& json, std::optional<T>& out) {
  if (json.is_null()) return {};
  return read(json, out.emplace());
}
template <typename T>
std::string read_one(const Json& json, std::vector<T>& out) {
  if (!json.is_array()) return "must be an array";
  for (const Json& item : json) {
    if (std::string wrong = read(item, out.emplace_back()); !wrong.empty()) return wrong;
  }
  return {};
}
template <typename T>
requires std::is_class_v<T> std::string read_one(const Json& json, T& out) {
  if (!json.is_object()) return "must be an object";
  Reader reader{json, {}};
  members(reader, out, static_cast<const T*>(nullptr));
  return std::move(reader.problem);
}

template <typename T>
std::string read(const Json& json, T& out) {
  return read_one(json, out);
}

template <typename T>
Result<T> read_body(std::string_view text) {
  if (const auto problem = syntax_problem(text)) return fail("relayd's answer is not JSON: " + *problem);
  T out;
  if (const std::string wrong = read(Json::parse(text, nullptr, false), out); !wrong.empty()) {
    return fail("relayd's answer is not understood: " + wrong);
  }
  return out;
}

Result<Failure> read_failure(const Json& error) {
  const auto code = error.is_object() ? error.find("code") : error.end();
  if (!error.is_object() || code == error.end() || !code->is_number_integer())
    return fail("an error without a code");
  const auto message = error.find("message");
  int number = 0;
  if (!read(*code, number).empty()) return fail("an error code out of range");
  return Failure{static_cast<ErrorCode>(number),
                 message != error.end() && message->is_string() ? message->get<std::string>() : ""};
}

}  // namespace

std::string write_reply(const std::string& id, const StatusReport& result) {
  return reply_line(id, "result", result);
}
std::string write_reply(const std::string& id, const RolloverResult& result) {
  return reply_line(id, "result", result);
}
std::string write_reply(const std::string& id, const ReloadResult& result) {
  return reply_line(id, "result", result);
}
std::string write_reply(const std::string& id, const UpgradeResult& result) {
  return reply_line(id, "result", result);
}
std::string write_reply(const std::string& id, const ConnectionList& result) {
  return reply_line(id, "result", result);
}
std::string write_reply(const std::string& id, const EventList& result) {
  return reply_line(id, "result", result);
}
std::string write_reply(const std::string& id, const Done& result) {
  return reply_line(id, "result", result);
}
std::string write_reply(const std::string& id, const VersionInfo& result) {
  return reply_line(id, "result", result);
}
std::string write_reply(const std::string& id, const Subscribed& result) {
  return reply_line(id, "result", result);
}

std::string write_failure(const std::string& id, const Failure& failure) {
  const Json error{{"code", static_cast<int>(failure.code)}, {"message", failure.message}};
  return R"({"jsonrpc":"2.0","id":)" + (id.empty() ? "null" : id) + ",\"error\":" + text_of(error) + "}\n";
}

std::string write_event(const Event& event) {
  return R"({"jsonrpc":"2.0","method":"event","params":)" + text_of(to_json(event)) + "}\n";
}

std::string event_document(const Event& event) { return text_of(to_json(event)); }

Result<Message> parse_message(std::string_view line) {
  if (const auto problem = syntax_problem(line))
    return fail("what answers at the socket does not speak JSON: " + *problem);
  const Json json = Json::parse(line, nullptr, false);
  if (!json.is_object()) return fail("what answers at the socket does not speak JSON-RPC");
  Message message;
  if (const auto method = json.find("method"); method != json.end()) {
    const auto params = json.find("params");
    if (*method != "event" || params == json.end()) return fail("a notification that is not known");
    message.kind = Message::Kind::kEvent;
    message.body = text_of(*params);
    return message;
  }
  if (const auto id = json.find("id"); id != json.end() && id->is_number_unsigned())
    message.id = id->get<std::uint64_t>();
  if (const auto error = json.find("error"); error != json.end()) {
    auto failure = read_failure(*error);
    if (!failure) return std::unexpected(failure.error());
    message.failure = std::move(*failure);
    return message;
  }
  const auto result = json.find("result");
  if (result == json.end()) return fail("a reply with neither result nor error");
  message.body = text_of(*result);
  return message;
}

Result<StatusReport> read_status(std::string_view json) { return read_body<StatusReport>(json); }
Result<RolloverResult> read_rollover(std::string_view json) { return read_body<RolloverResult>(json); }
Result<ReloadResult> read_reload(std::string_view json) { return read_body<ReloadResult>(json); }
Result<UpgradeResult> read_upgrade(std::string_view json) { return read_body<UpgradeResult>(json); }
Result<ConnectionList> read_connections(std::string_view json) { return read_body<ConnectionList>(json); }
Result<EventList> read_events(std::string_view json) { return read_body<EventList>(json); }
Result<Event> read_event(std::string_view json) { return read_body<Event>(json); }
Result<Done> read_done(std::string_view json) { return read_body<Done>(json); }
Result<VersionInfo> read_version(std::string_view json) { return read_body<VersionInfo>(json); }
Result<Subscribed> read_subscribed(std::string_view json) { return read_body<Subscribed>(json); }

std::string write_error_document(int code, std::string_view name, std::string_view message) {
  return text_of(Json{{"error", Json{{"code", code}, {"name", name}, {"message", message}}}});
}

std::string_view error_name(ErrorCode code) {
  switch (code) {
    case ErrorCode::kParseError:
      return "parse_error";
    case ErrorCode::kInvalidRequest:
      return "invalid_request";
    case ErrorCode::kMethodNotFound:
      return "method_not_found";
    case ErrorCode::kInvalidParams:
      return "invalid_params";
    case ErrorCode::kFailed:
      return "failed";
    case ErrorCode::kBusy:
      return "busy";
    case ErrorCode::kNotPermitted:
      return "not_permitted";
    case ErrorCode::kNoSuchService:
      return "no_such_service";
    case ErrorCode::kNotBuilt:
      return "not_built";
  }
  return "failed";
}

std::string indented(std::string_view json) {
  if (syntax_problem(json)) return std::string(json);
  return text_of(Json::parse(json, nullptr, false), 2);
}

}  // namespace relayd::control
