#include "proxy/backend/launch.h"

#include "tests/backend/fixture.h"

namespace relayd::backend {
namespace {

using testing::Contains;
using testing::HasSubstr;
using testing::Pair;

constexpr rlimit kOriginal{1024, 4096};

Definition definition() {
  Definition result;
  result.service.name = "web";
  return result;
}

Placement on_port() { return {3, 1, SocketAddress::loopback(61004), "@00042"}; }
Placement on_socket() {
  return {3, 1, *SocketAddress::unix_path("/run/relayd/web-3-1-x/app.sock"), "@00042"};
}

TEST(Launch, EnvironmentOfAPortAddress) {
  Definition given = definition();
  given.env = {{"BIND", "{address}"}, {"G", "{generation}.{instance}"}, {"PATH", "/own"}, {"PORT", "3000"}};
  const auto program =
      program_frame(given, on_port(), std::nullopt, kOriginal, {{"PATH", "/bin"}, {"HOME", "/h"}});
  ASSERT_TRUE(program) << program.error().message;
  const Environment expected = {{"BIND", "127.0.0.1:61004"},
                                {"G", "3.1"},
                                {"HOME", "/h"},
                                {"HOST", "127.0.0.1"},
                                {"NOTIFY_SOCKET", "@00042"},
                                {"PATH", "/own"},
                                {"PORT", "61004"},
                                {"RELAY_GENERATION", "3"},
                                {"RELAY_INSTANCE", "1"},
                                {"RELAY_SERVICE", "web"}};
  EXPECT_EQ(program->env, expected);
}

TEST(Launch, EnvironmentOfASocketAddress) {
  const auto program = program_frame(definition(), on_socket(), std::nullopt, kOriginal, {});
  ASSERT_TRUE(program);
  EXPECT_THAT(program->env, Contains(Pair("RELAY_SOCKET", "/run/relayd/web-3-1-x/app.sock")));
  EXPECT_EQ(program->env.count("PORT"), 0U);
  EXPECT_EQ(program->env.count("HOST"), 0U);
}

TEST(Launch, UserGetsHisHomeUnlessTheDefinitionSaysOtherwise) {
  Definition given = definition();
  given.env = {{"USER", "other"}};
  Identity identity{.uid = 33, .gid = 33, .groups = {33}, .name = "www-data", .home = "/var/www"};
  const auto program = program_frame(given, on_port(), identity, kOriginal, {{"HOME", "/root"}});
  ASSERT_TRUE(program);
  EXPECT_THAT(program->env, Contains(Pair("HOME", "/var/www")));
  EXPECT_THAT(program->env, Contains(Pair("LOGNAME", "www-data")));
  EXPECT_THAT(program->env, Contains(Pair("USER", "other")));
}

TEST(Launch, OpenFiles) {
  Definition given = definition();
  EXPECT_EQ(program_frame(given, on_port(), std::nullopt, kOriginal, {})->nofile->rlim_cur, 1024U);
  EXPECT_EQ(program_frame(given, on_port(), std::nullopt, kOriginal, {})->nofile->rlim_max, 4096U);
  given.service.backend.nofile = 65536;
  EXPECT_EQ(program_frame(given, on_port(), std::nullopt, kOriginal, {})->nofile->rlim_cur, 65536U);
  EXPECT_EQ(program_frame(given, on_port(), std::nullopt, kOriginal, {})->nofile->rlim_max, 65536U);
}

TEST(Launch, CommandTemplates) {
  const auto port =
      expand_command({"app", "--bind", "{address}", "{host}", "{port}"}, "backend.command", on_port());
  EXPECT_EQ(*port, (std::vector<std::string>{"app", "--bind", "127.0.0.1:61004", "127.0.0.1", "61004"}));
  const auto socket = expand_command({"app", "{address}", "{socket}"}, "backend.command", on_socket());
  EXPECT_EQ(*socket, (std::vector<std::string>{"app", "unix:/run/relayd/web-3-1-x/app.sock",
                                               "/run/relayd/web-3-1-x/app.sock"}));
}

TEST(Launch, ErrorsNameTheKey) {
  EXPECT_THAT(expand_command({"app", "{port}"}, "backend.command", on_socket()).error().message,
              HasSubstr("backend.command"));
  EXPECT_THAT(expand_command({}, "health.command", on_socket()).error().message, HasSubstr("health.command"));
  Definition given = definition();
  given.env = {{"SOCK", "{socket}"}};
  EXPECT_THAT(program_frame(given, on_port(), std::nullopt, kOriginal, {}).error().message,
              HasSubstr("env SOCK"));
}

// A fault found only when the new instance starts would, in a hot rollover, come after the old one's end.
TEST(Launch, TemplateFaultsAreKnownBeforeAnythingStarts) {
  Definition given = definition();
  given.service.backend.command = {"app", "--bind", "{address}", "{host}:{port}", "{generation}.{instance}"};
  given.env = {{"FLAGS", R"({{"a": 1}})"}, {"P", "{port}"}};
  ASSERT_TRUE(check_templates(given)) << check_templates(given).error().message;

  Definition faulty = given;
  faulty.env["FLAGS"] = R"({"a": 1})";
  EXPECT_THAT(check_templates(faulty).error().message, HasSubstr("env FLAGS: "));
  faulty = given;
  faulty.service.backend.command.push_back("{socket}");
  EXPECT_THAT(check_templates(faulty).error().message, HasSubstr("backend.command: {socket}"));
  faulty = given;
  faulty.service.backend.command.clear();
  EXPECT_THAT(check_templates(faulty).error().message, HasSubstr("backend.command is empty"));
  faulty = given;
  faulty.service.health.check = config::Check::kCommand;
  faulty.service.health.command = {"probe", "{prot}"};
  EXPECT_THAT(check_templates(faulty).error().message, HasSubstr("health.command: unknown template {prot}"));

  faulty = given;
  faulty.service.backend.address = config::AddressKind::kSocket;
  EXPECT_FALSE(check_templates(faulty));
  faulty.service.backend.command = {"app", "{socket}", "{address}"};
  faulty.env = {{"S", "{socket}"}};
  EXPECT_TRUE(check_templates(faulty));
}

}  // namespace
}  // namespace relayd::backend
