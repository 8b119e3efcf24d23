#include "proxy/config/template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace relayd::config {
namespace {

using testing::HasSubstr;

Result<std::string> expand(std::string_view text) {
  return expand_template(text, [](std::string_view name) -> Result<std::string> {
    if (name == "socket") return fail("no socket here", 7);
    return "<" + std::string(name) + ">";
  });
}

TEST(Template, Expands) {
  const struct {
    const char* text;
    const char* expanded;
  } rows[] = {
      {"", ""},
      {"plain", "plain"},
      {"{address}", "<address>"},
      {"--bind={host}:{port}", "--bind=<host>:<port>"},
      {"{generation}{instance}", "<generation><instance>"},
      {"{{", "{"},
      {"}}", "}"},
      {"{{port}}", "{port}"},
      {"{{{port}}}", "{<port>}"},
      {"${{HOME}}", "${HOME}"},
  };
  for (const auto& row : rows) {
    const auto expanded = expand(row.text);
    ASSERT_TRUE(expanded) << row.text << ": " << expanded.error().message;
    EXPECT_EQ(*expanded, row.expanded);
  }
}

TEST(Template, RefusesWithThePlace) {
  const struct {
    const char* text;
    const char* message;
  } rows[] = {
      {"{", "the '{' at character 1"},
      {"abc{port", "the '{' at character 4"},
      {"{port{host}", "the '{' at character 1"},
      {"x}", "a lone '}' at character 2"},
      {"{port}}", "a lone '}' at character 7"},
      {"{}", "unknown template {} at character 1"},
      {"a {prot}", "unknown template {prot} at character 3"},
      {"{prot}", "did you mean {port}?"},
      {"{PORT}", "did you mean {port}?"},
      {"{ port }", "unknown template"},
      {"{socket}", "no socket here at character 1 of '{socket}'"},
  };
  for (const auto& row : rows) {
    const auto expanded = expand(row.text);
    ASSERT_FALSE(expanded) << row.text;
    EXPECT_THAT(expanded.error().message, HasSubstr(row.message));
  }
  EXPECT_EQ(expand("{socket}").error().code, 7);
}

TEST(Template, EveryNameIsKnown) {
  for (const auto name : template_names()) {
    if (name == "socket") continue;
    EXPECT_TRUE(expand("{" + std::string(name) + "}")) << name;
  }
}

}  // namespace
}  // namespace relayd::config
