#include "proxy/backend/environment.h"

#include "proxy/backend/template.h"
#include "tests/backend/fixture.h"

namespace relayd::backend {
namespace {

using testing::HasSubstr;

TEST(Templates, Expand) {
  const TemplateValues values{{"host", "127.0.0.1"}, {"port", "61004"}, {"address", "127.0.0.1:61004"}};
  const std::vector<std::pair<std::string, std::string>> table = {
      {"", ""},
      {"plain", "plain"},
      {"{address}", "127.0.0.1:61004"},
      {"http://{host}:{port}/", "http://127.0.0.1:61004/"},
      {"{{port}}", "{port}"},
      {"{{{port}}}", "{61004}"},
      {"{{\"a\":{{}}}}", "{\"a\":{}}"},
  };
  for (const auto& [text, expected] : table) {
    const auto expanded = expand(text, values);
    ASSERT_TRUE(expanded) << text << ": " << expanded.error().message;
    EXPECT_EQ(*expanded, expected) << text;
  }
}

TEST(Templates, Errors) {
  const TemplateValues values{{"port", "61004"}};
  for (const std::string text : {"{prt}", "{socket}", "{", "x}", "{port", "{}", "{ port }"}) {
    const auto expanded = expand(text, values);
    ASSERT_FALSE(expanded) << text;
    EXPECT_THAT(expanded.error().message, HasSubstr(text));
  }
  EXPECT_THAT(expand("{socket}", values).error().message, HasSubstr("{port}"));  // what there is instead
}

TEST(Templates, EscapedTextExpandsToItself) {
  for (const std::string text : {"", "plain", "{", "}}", "p{a}ss{{word"}) {
    EXPECT_EQ(expand(escape_template(text), {}).value_or("?"), text);
  }
}

TEST(EnvFile, Values) {
  struct Case {
    const char* text;
    Environment expected;
  };
  const std::vector<Case> table = {
      {"", {}},
      {"\n  \n# comment\n; another\n", {}},
      {"A=1\nB=2", {{"A", "1"}, {"B", "2"}}},
      {"A=1\r\nB=2\r\n", {{"A", "1"}, {"B", "2"}}},
      {"\xEF\xBB\xBF"
       "A=1\n",
       {{"A", "1"}}},
      {"A=", {{"A", ""}}},
      {"  A = 1 2  \n", {{"A", "1 2"}}},
      {"URL=postgres://u:p@h/db?x=1#frag\n", {{"URL", "postgres://u:p@h/db?x=1#frag"}}},
      {"A=1\nA=2\n", {{"A", "2"}}},
      {"A=\" padded \"  \n", {{"A", " padded "}}},
      {"A='it is \\n $HOME'\n", {{"A", "it is \\n $HOME"}}},
      {"A=\"say \\\"hi\\\" \\\\ \\$x \\q\"\n", {{"A", "say \"hi\" \\ $x \\q"}}},
      {"A=\"two\nlines\"\nB=1\n", {{"A", "two\nlines"}, {"B", "1"}}},
      {"A=one\\\ntwo\nB=1\n", {{"A", "onetwo"}, {"B", "1"}}},
      {"A=\"one\\\ntwo\"\n", {{"A", "onetwo"}}},
      {"A=a\\ b\\ \n", {{"A", "a b "}}},
      {"A=\"x\"y'z'\n", {{"A", "xyz"}}},
      {"spring.port=1\nMY-KEY=2\n", {{"spring.port", "1"}, {"MY-KEY", "2"}}},
      {"A={json}\n", {{"A", "{json}"}}},
  };
  for (const Case& c : table) {
    const auto parsed = parse_env_file(c.text, "app.env");
    ASSERT_TRUE(parsed) << c.text << parsed.error().message;
    EXPECT_EQ(*parsed, c.expected) << c.text;
  }
}

TEST(EnvFile, ErrorsNameTheLine) {
  const std::vector<std::tuple<std::string, std::string, std::string>> table = {
      {"A=1\nSECRET\n", "app.env:2: ", "KEY=VALUE"},
      {"export A=1\n", "app.env:1: ", "export"},
      {"# x\n\n=1\n", "app.env:3: ", "not a name"},
      {"1A=1\n", "app.env:1: ", "not a name"},
      {"A B=1\n", "app.env:1: ", "not a name"},
      {"X=1\nA=\"never\nclosed\n", "app.env:2: ", "never closed"},
      {std::string("A=a\0b\n", 6), "app.env:1: ", "zero byte"},
  };
  for (const auto& [text, place, why] : table) {
    const auto parsed = parse_env_file(text, "app.env");
    ASSERT_FALSE(parsed) << text;
    EXPECT_THAT(parsed.error().message, testing::StartsWith(place));
    EXPECT_THAT(parsed.error().message, HasSubstr(why));
  }
}

TEST(EnvFile, MergedUnderOverridesAndTakenLiterally) {
  TemporaryFolder folder;
  write_text(folder.file("app.env"), "A=file\nPASSWORD=a{b\nB=file\n");
  config::Backend backend;
  backend.env = {{"A", "config"}, {"ADDR", "{address}"}};
  backend.env_file = folder.file("app.env");
  const auto merged = definition_environment(backend, {{"B", "{override}"}});
  ASSERT_TRUE(merged);
  EXPECT_EQ(*merged,
            (Environment{{"A", "file"}, {"ADDR", "{address}"}, {"B", "{{override}}"}, {"PASSWORD", "a{{b"}}));
}

TEST(Overrides, AreTakenLiterally) {
  config::Backend backend;
  backend.env = {{"FLAGS", "{instance}"}};
  const auto merged = definition_environment(backend, {{"FLAGS", R"({"new_cart": {"share": 5}})"}});
  ASSERT_TRUE(merged) << merged.error().message;
  const auto value = expand(merged->at("FLAGS"), {});
  ASSERT_TRUE(value) << value.error().message;
  EXPECT_EQ(*value, R"({"new_cart": {"share": 5}})");
}

TEST(Overrides, OfWhatRelaydSetsItselfAndOfNoNamesAreRefused) {
  config::Backend backend;
  for (const std::string name :
       {"HOST", "PORT", "RELAY_GENERATION", "RELAY_X", "NOTIFY_SOCKET", "LISTEN_FDS"}) {
    const auto merged = definition_environment(backend, {{name, "1"}});
    ASSERT_FALSE(merged) << name;
    EXPECT_EQ(
        merged.error().message,
        "--env " + name +
            ": relayd sets this variable itself for every instance; leave it out, or take another name");
  }
  for (const std::string name : {"", "1A", "A B", "A=B", "\xc3\xa4"}) {
    const auto merged = definition_environment(backend, {{name, "1"}});
    ASSERT_FALSE(merged) << name;
    EXPECT_THAT(merged.error().message, HasSubstr("not a name"));
  }
  EXPECT_FALSE(definition_environment(backend, {{"A", std::string("a\0b", 3)}}));
  backend.address = config::AddressKind::kSocket;
  EXPECT_TRUE(definition_environment(backend, {{"PORT", "3000"}})) << "not relayd's with a socket";
}

TEST(EnvFile, MissingFileIsNamed) {
  config::Backend backend;
  backend.env_file = "/nonexistent/app.env";
  const auto merged = definition_environment(backend, {});
  ASSERT_FALSE(merged);
  EXPECT_EQ(merged.error().message,
            "cannot read the env_file /nonexistent/app.env: No such file or directory (ENOENT)");
}

TEST(InheritedEnvironment, LeavesOutWhatIsRelaydsOwn) {
  const char* block[] = {"PATH=/bin",
                         "LISTEN_FDS=2",
                         "LISTEN_PID=1",
                         "NOTIFY_SOCKET=/run/x",
                         "WATCHDOG_USEC=10",
                         "RELAY_SERVICE=o",
                         "RELAYD_SOCKET=s",
                         "EMPTY=",
                         "X=a=b",
                         nullptr};
  EXPECT_EQ(inherited_environment(block),
            (Environment{{"PATH", "/bin"}, {"RELAYD_SOCKET", "s"}, {"EMPTY", ""}, {"X", "a=b"}}));
}

}  // namespace
}  // namespace relayd::backend
