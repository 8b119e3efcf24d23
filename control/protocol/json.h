#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <vector>

#include "control/protocol/messages.h"
#include "control/protocol/requests.h"
#include "proxy/base/error.h"

// The control protocol's lines: JSON-RPC 2.0, one message a line. No function here throws, whatever bytes it
// is given. Lines that are written end with a newline; bytes that are not UTF-8 (an app's stderr) become
// U+FFFD.
namespace relayd::control {

// One request, checked: the method is known, every member of its params too, each of the right type and in
// range.
struct Request {
  std::string id;  // the id's own JSON text; empty: a notification, which gets no reply
  Call call;
};
struct Refusal {
  std::string id;  // "null" where the request's own could not be read; empty: a notification
  Failure failure;
};
std::expected<Request, Refusal> parse_request(std::string_view line);
std::string write_request(std::uint64_t id, const Call& call);

struct VersionInfo {
  std::string name = "relayd";
  std::string version;
  unsigned protocol = 0;
  std::int64_t pid = 0;
};
struct Subscribed {
  std::string service;         // empty: all
  std::uint64_t replayed = 0;  // kept events that follow at once
};
struct EventList {
  std::vector<Event> events;
};
struct ConnectionList {
  std::vector<ConnectionEntry> connections;
};

// {"jsonrpc":"2.0","id":…,"result":…}; `id` is JSON text.
std::string write_reply(const std::string& id, const StatusReport& result);
std::string write_reply(const std::string& id, const RolloverResult& result);
std::string write_reply(const std::string& id, const ReloadResult& result);
std::string write_reply(const std::string& id, const UpgradeResult& result);
std::string write_reply(const std::string& id, const ConnectionList& result);
std::string write_reply(const std::string& id, const EventList& result);
std::string write_reply(const std::string& id, const Done& result);
std::string write_reply(const std::string& id, const VersionInfo& result);
std::string write_reply(const std::string& id, const Subscribed& result);
std::string write_failure(const std::string& id, const Failure& failure);
// {"jsonrpc":"2.0","method":"event","params":{…}}
std::string write_event(const Event& event);

// What a client receives: the reply to its request `id`, or an event.
struct Message {
  enum class Kind { kReply, kEvent } kind = Kind::kReply;
  std::optional<std::uint64_t> id;  // none: an error that belongs to no request
  std::string body;  // JSON text of `result` or of the event's params; empty where `failure` is set
  std::optional<Failure> failure;
};
Result<Message> parse_message(std::string_view line);

// Read the body of a message. Members that are not known are left out (a newer relayd), absent ones keep
// their default; a wrong type is an error that names the member.
Result<StatusReport> read_status(std::string_view json);
Result<RolloverResult> read_rollover(std::string_view json);
Result<ReloadResult> read_reload(std::string_view json);
Result<UpgradeResult> read_upgrade(std::string_view json);
Result<ConnectionList> read_connections(std::string_view json);
Result<EventList> read_events(std::string_view json);
Result<Event> read_event(std::string_view json);
Result<Done> read_done(std::string_view json);
Result<VersionInfo> read_version(std::string_view json);
Result<Subscribed> read_subscribed(std::string_view json);

// One event as a document of its own, without a newline: what relayctl events --json prints a line of.
std::string event_document(const Event& event);
// {"error":{"code":-32001,"name":"busy","message":"…"}}: what relayctl --json prints where there is no
// result.
std::string write_error_document(int code, std::string_view name, std::string_view message);
// "busy", "not_permitted" …; "failed" for codes that have no name.
std::string_view error_name(ErrorCode code);
// The same document over several lines, for eyes; the text itself where it is no JSON.
std::string indented(std::string_view json);

}  // namespace relayd::control
