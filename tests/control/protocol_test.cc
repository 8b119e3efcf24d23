#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "control/protocol/json.h"
#include "control/protocol/nearest.h"
#include "control/protocol/version.h"
#include "tests/control/fake_commands.h"

namespace relayd::control {
namespace {

using testing::HasSubstr;

// What was written, read and written again is the same: nothing is lost, and no key has two names.
template <typename T>
std::string again(const T& value, Result<T> (*read)(std::string_view)) {
  const std::string line = write_reply("1", value);
  const auto message = parse_message(line);
  EXPECT_TRUE(message) << message.error().message;
  const auto back = read(message->body);
  EXPECT_TRUE(back) << back.error().message;
  EXPECT_EQ(write_reply("1", *back), line);
  return line;
}

TEST(Messages, StatusRoundTrip) {
  StatusReport report = FakeCommands::sample_report();
  report.services[0].rollover = "hot";
  report.services[0].rollover_ms = 17;
  report.services[0].generations[0].ready_in_ms = 900;
  report.services[0].bytes_in = std::numeric_limits<std::uint64_t>::max();
  report.services[0].crossings = 64;
  report.services[0].generations[0].requests = 5;
  const std::string line = again<StatusReport>(report, read_status);
  EXPECT_THAT(line, HasSubstr(R"("cut_in_ms":12300)"));
  EXPECT_THAT(line, HasSubstr(R"("cut_in_ms":null)")) << "keys are always there";
  EXPECT_THAT(line, HasSubstr(R"("bytes_in":18446744073709551615)"));
  EXPECT_THAT(line, HasSubstr(R"("requests":0,"crossings":64,"sent_again":0,"answered":0)"));
  EXPECT_THAT(line, HasSubstr(R"("requests":5)"));
  again<StatusReport>(StatusReport{}, read_status);
}

TEST(Messages, OtherRepliesRoundTrip) {
  again<RolloverResult>({"web", "hot", "failed", "exit status 1\nline two", 3, 4, 1200, true, {"a", "b"}},
                        read_rollover);
  again<ReloadResult>({{"a"}, {"b"}, {"c"}, {"d"}, {"e"}, {"f"}}, read_reload);
  again<UpgradeResult>({"1.2.0", "1.2.1", "/usr/bin/relayd", 4711, 9000, 43}, read_upgrade);
  again<ConnectionList>({{{"web", 7, "[::1]:80", 2, 1, "relaying", 1, 2, 3, 4}}}, read_connections);
  again<Done>({"paused \"web\""}, read_done);
  again<VersionInfo>({"relayd", "1.2.3", 1, 77}, read_version);
  again<Subscribed>({"web", 9}, read_subscribed);
  again<EventList>({{{1, 2, "web", "switched", 3, 0, "text", {{"k", "v"}}}, {}}}, read_events);
}

TEST(Messages, EventRoundTrip) {
  const Event event{5, 1'700'000'000'123, "web", "rollover_failed", 4, 2, "failed", {{"stderr", "a\nb"}}};
  const std::string line = write_event(event);
  EXPECT_EQ(std::ranges::count(line, '\n'), 1) << "one message a line";
  const auto message = parse_message(line);
  ASSERT_TRUE(message);
  EXPECT_EQ(message->kind, Message::Kind::kEvent);
  const auto back = read_event(message->body);
  ASSERT_TRUE(back);
  EXPECT_EQ(write_event(*back), line);
  EXPECT_EQ(back->details.at("stderr"), "a\nb");
}

TEST(Messages, FailureRoundTrip) {
  const auto message = parse_message(write_failure("9", {ErrorCode::kBusy, "a rollover is in progress"}));
  ASSERT_TRUE(message);
  EXPECT_EQ(message->id, 9u);
  ASSERT_TRUE(message->failure);
  EXPECT_EQ(message->failure->code, ErrorCode::kBusy);
  EXPECT_EQ(message->failure->message, "a rollover is in progress");
}

TEST(Messages, BytesThatAreNoUtf8AreReplaced) {
  EXPECT_THAT(write_event({1, 2, "web", "x", 0, {}, "caf\xe9 \xff", {}}),
              HasSubstr("caf\xef\xbf\xbd \xef\xbf\xbd"));
}

TEST(Messages, NewerMembersAreLeftOutAndWrongTypesNamed) {
  EXPECT_TRUE(read_status(R"({"version":"9","invented":{"x":1}})"));
  const auto wrong = read_status(R"({"services":[{"generation":-1}]})");
  ASSERT_FALSE(wrong);
  EXPECT_THAT(wrong.error().message, HasSubstr("generation"));
}

TEST(Requests, EveryCallRoundTrips) {
  const std::vector<Call> calls{StatusCall{"web"},
                                RolloverCall{"web", "hot", {{"A", "1"}, {"B_2", ""}}, true, true},
                                RolloverCall{"web", {}, {}, true, false, {"10.0.0.6:8000", "app:1"}},
                                RolloverCall{},
                                AbortCall{"web"},
                                PauseCall{},
                                ResumeCall{"web"},
                                ScaleCall{"web", 4},
                                ReloadCall{},
                                ConnectionsCall{"web", 3},
                                SubscribeCall{"web", 12, 5},
                                RecentCall{"", 0, std::nullopt},
                                StopCall{true},
                                UpgradeCall{},
                                UpgradeCall{"./relayd"},
                                VersionCall{}};
  for (const Call& call : calls) {
    const std::string line = write_request(3, call);
    const auto request = parse_request(std::string_view(line).substr(0, line.size() - 1));
    ASSERT_TRUE(request) << line << request.error().failure.message;
    EXPECT_EQ(request->id, "3");
    EXPECT_EQ(request->call, call) << line;
  }
}

struct Bad {
  const char* line;
  ErrorCode code;
  const char* says;
  const char* id = "null";
};

TEST(Requests, WhatIsWrongIsRefusedAndNamed) {
  const std::vector<Bad> table{
      {"", ErrorCode::kParseError, ""},
      {"hello", ErrorCode::kParseError, "not read"},
      {"{", ErrorCode::kParseError, "not read"},
      {R"({"jsonrpc":"2.0","id":1,"method":"status"} x)", ErrorCode::kParseError, "not read"},
      {"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"st\xff\"}", ErrorCode::kParseError, "UTF-8"},
      {R"({"jsonrpc":"2.0","id":1,"id":2,"method":"status"})", ErrorCode::kParseError, "given twice"},
      {R"({"jsonrpc":"2.0","id":1,"method":"status","params":{"service":"a\u0000b"}})",
       ErrorCode::kParseError, "NUL"},
      {R"({"jsonrpc":"2.0","id":1e999,"method":"status"})", ErrorCode::kParseError, "overflow"},
      {R"([[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]])", ErrorCode::kParseError, "nested deeper"},
      {R"([{"jsonrpc":"2.0","id":1,"method":"status"}])", ErrorCode::kInvalidRequest, "batches"},
      {"[]", ErrorCode::kInvalidRequest, "batches"},
      {"7", ErrorCode::kInvalidRequest, "object"},
      {"null", ErrorCode::kInvalidRequest, "object"},
      {"{}", ErrorCode::kInvalidRequest, "jsonrpc"},
      {R"({"id":1,"method":"status"})", ErrorCode::kInvalidRequest, "jsonrpc", "1"},
      {R"({"jsonrpc":"1.0","id":1,"method":"status"})", ErrorCode::kInvalidRequest, "2.0", "1"},
      {R"({"jsonrpc":2.0,"id":1,"method":"status"})", ErrorCode::kInvalidRequest, "2.0", "1"},
      {R"({"jsonrpc":"2.0","id":1})", ErrorCode::kInvalidRequest, "method", "1"},
      {R"({"jsonrpc":"2.0","id":1,"method":5})", ErrorCode::kInvalidRequest, "method", "1"},
      {R"({"jsonrpc":"2.0","id":1.5,"method":"status"})", ErrorCode::kInvalidRequest, "id"},
      {R"({"jsonrpc":"2.0","id":{},"method":"status"})", ErrorCode::kInvalidRequest, "id"},
      {R"({"jsonrpc":"2.0","id":1,"method":"status","parms":{}})", ErrorCode::kInvalidRequest,
       "\"params\" meant", "1"},
      {R"({"jsonrpc":"2.0","id":"a","method":"statsu"})", ErrorCode::kMethodNotFound, "\"status\" meant",
       "\"a\""},
      {R"({"jsonrpc":"2.0","id":null,"method":"fly"})", ErrorCode::kMethodNotFound, "there are: status"},
      {R"({"jsonrpc":"2.0","id":1,"method":"status","params":[]})", ErrorCode::kInvalidParams, "by name",
       "1"},
      {R"({"jsonrpc":"2.0","id":1,"method":"status","params":null})", ErrorCode::kInvalidParams, "by name",
       "1"},
      {R"({"jsonrpc":"2.0","id":1,"method":"status","params":{"service":7}})", ErrorCode::kInvalidParams,
       "a string", "1"},
      {R"({"jsonrpc":"2.0","id":1,"method":"status","params":{"sevrice":"a"}})", ErrorCode::kInvalidParams,
       "\"service\" meant", "1"},
      {R"({"jsonrpc":"2.0","id":1,"method":"reload","params":{"x":1}})", ErrorCode::kInvalidParams,
       "there are none", "1"},
      {R"({"jsonrpc":"2.0","id":1,"method":"scale"})", ErrorCode::kInvalidParams, "instances", "1"},
      {R"({"jsonrpc":"2.0","id":1,"method":"scale","params":{"instances":0}})", ErrorCode::kInvalidParams,
       "1 to 1000", "1"},
      {R"({"jsonrpc":"2.0","id":1,"method":"scale","params":{"instances":-1}})", ErrorCode::kInvalidParams,
       "1 to 1000", "1"},
      {R"({"jsonrpc":"2.0","id":1,"method":"scale","params":{"instances":99999999999999999999}})",
       ErrorCode::kInvalidParams, "1 to 1000", "1"},
      {R"({"jsonrpc":"2.0","id":1,"method":"rollover","params":{"mode":"warm"}})", ErrorCode::kInvalidParams,
       "phased", "1"},
      {R"({"jsonrpc":"2.0","id":1,"method":"rollover","params":{"until":"done"}})", ErrorCode::kInvalidParams,
       "drained", "1"},
      {R"({"jsonrpc":"2.0","id":1,"method":"rollover","params":{"env":{"1A":"x"}}})",
       ErrorCode::kInvalidParams, "1A", "1"},
      {R"({"jsonrpc":"2.0","id":1,"method":"rollover","params":{"env":{"A":1}}})", ErrorCode::kInvalidParams,
       "env.A", "1"},
      {R"({"jsonrpc":"2.0","id":1,"method":"rollover","params":{"env":{"":"x"}}})", ErrorCode::kInvalidParams,
       "environment", "1"},
      {R"({"jsonrpc":"2.0","id":1,"method":"rollover","params":{"target":["a:1"]}})",
       ErrorCode::kInvalidParams, "is \"targets\" meant?", "1"},
      {R"({"jsonrpc":"2.0","id":1,"method":"rollover","params":{"targets":"a:1"}})",
       ErrorCode::kInvalidParams, "params.targets of rollover must be an array of strings, at least one",
       "1"},
      {R"({"jsonrpc":"2.0","id":1,"method":"rollover","params":{"targets":[]}})", ErrorCode::kInvalidParams,
       "at least one", "1"},
      {R"({"jsonrpc":"2.0","id":1,"method":"rollover","params":{"targets":["a:1",2]}})",
       ErrorCode::kInvalidParams, "an array of strings", "1"},
      {R"({"jsonrpc":"2.0","id":1,"method":"rollover","params":{"canary":5}})", ErrorCode::kNotBuilt,
       "not in this version yet", "1"},
      {R"({"jsonrpc":"2.0","id":1,"method":"promote"})", ErrorCode::kNotBuilt,
       "not in this version yet: ", "1"},
      {R"({"jsonrpc":"2.0","id":1,"method":"upgrad"})", ErrorCode::kMethodNotFound, "\"upgrade\" meant", "1"},
      {R"({"jsonrpc":"2.0","id":1,"method":"upgrade","params":{"binry":"/x"}})", ErrorCode::kInvalidParams,
       "\"binary\" meant", "1"},
      {R"({"jsonrpc":"2.0","id":1,"method":"upgrade","params":{"binary":""}})", ErrorCode::kInvalidParams,
       "the path of a file", "1"},
      {R"({"jsonrpc":"2.0","id":1,"method":"upgrade","params":{"binary":["/x"]}})", ErrorCode::kInvalidParams,
       "a string", "1"},
      {R"({"jsonrpc":"2.0","id":1,"method":"upgrade","params":{"binary":"/x\u0000y"}})",
       ErrorCode::kParseError, "NUL"},
      {R"({"jsonrpc":"2.0","id":1,"method":"doctor","params":{"x":1}})", ErrorCode::kNotBuilt,
       "not in this version yet: ", "1"},
      {R"({"jsonrpc":"2.0","id":1,"method":"connections","params":{"generation":4294967296}})",
       ErrorCode::kInvalidParams, "4294967295", "1"},
      {R"({"jsonrpc":"2.0","id":1,"method":"stop","params":{"now":"yes"}})", ErrorCode::kInvalidParams,
       "true or false", "1"},
  };
  for (const Bad& bad : table) {
    const auto request = parse_request(bad.line);
    ASSERT_FALSE(request) << bad.line;
    EXPECT_EQ(request.error().failure.code, bad.code) << bad.line << "\n" << request.error().failure.message;
    EXPECT_THAT(request.error().failure.message, HasSubstr(bad.says)) << bad.line;
    EXPECT_EQ(request.error().id, bad.id) << bad.line;
  }
}

TEST(Requests, IdsComeBackAsTheyCame) {
  const auto id_of = [](const std::string& id) {
    const auto request = parse_request(R"({"jsonrpc":"2.0","method":"status","id":)" + id + "}");
    return request ? request->id : "refused";
  };
  EXPECT_EQ(id_of("0"), "0");
  EXPECT_EQ(id_of("-7"), "-7");
  EXPECT_EQ(id_of("18446744073709551615"), "18446744073709551615");
  EXPECT_EQ(id_of(R"("x\"\u00e9")"), "\"x\\\"\xc3\xa9\"");
  EXPECT_EQ(id_of("null"), "null");
  EXPECT_EQ(id_of("\"" + std::string(257, 'a') + "\""), "refused");
  EXPECT_EQ(parse_request(R"({"jsonrpc":"2.0","method":"status"})")->id, "") << "a notification";
}

TEST(Nearest, FindsTheNameThatWasMeant) {
  EXPECT_EQ(nearest("statsu", method_names()), "status");
  EXPECT_EQ(nearest("rolover", method_names()), "rollover");
  EXPECT_EQ(nearest("xyzzy", method_names()), "");
  EXPECT_EQ(nearest("", method_names()), "");
  EXPECT_EQ(nearest(std::string(100'000, 's'), method_names()), "");
}

}  // namespace
}  // namespace relayd::control
