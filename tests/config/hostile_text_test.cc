#include <gtest/gtest.h>

#include <fstream>
#include <random>
#include <sstream>

#include "proxy/config/loader.h"

// Text that nobody would write: whatever the file holds, the loader ends soon, with faults or a
// configuration.
namespace relayd::config {
namespace {

std::string repeated(std::string_view part, std::size_t count) {
  std::string text;
  text.reserve(part.size() * count);
  for (std::size_t i = 0; i < count; ++i) text += part;
  return text;
}

void expect_faults(const std::string& text, const std::string& what) {
  const Loaded loaded = load_text(text, "hostile");
  ASSERT_FALSE(loaded.faults.empty()) << what;
  EXPECT_LE(loaded.faults.size(), 101U) << what;
  for (const Fault& fault : loaded.faults) {
    EXPECT_LT(fault.message.size(), 2000U) << what;
    EXPECT_EQ(fault.message.find('\n'), std::string::npos) << what;
    EXPECT_FALSE(fault.message.empty()) << what;
  }
}

TEST(HostileText, DeepNesting) {
  for (const char* part : {"[",  "{", "- ", "a: {", "? ", "[{", "{[", "-\n",   "!",     "&a ", "&a [", "*",
                           "\"", "'", "|",  ">",    ": ", ",",  "%",  "---\n", "...\n", "# ",  "\t",   " "}) {
    for (const std::size_t count : {10U, 40U, 1000U, 20'000U}) expect_faults(repeated(part, count), part);
  }
  std::string steps;
  for (int depth = 0; depth < 600; ++depth)
    steps += std::string(static_cast<std::size_t>(depth), ' ') + "a:\n";
  expect_faults(steps, "a staircase");
}

TEST(HostileText, AliasBombs) {
  std::string bomb = "a: &a [x, x, x, x, x, x, x, x, x, x]\n";
  for (char name = 'b'; name <= 'z'; ++name) {
    bomb += std::string(1, name) + ": &" + name + " [";
    for (int i = 0; i < 10; ++i) bomb += std::string("*") + static_cast<char>(name - 1) + ", ";
    bomb += "]\n";
  }
  expect_faults(bomb, "a billion laughs");
  expect_faults("services: &s {web: *s}", "a cycle");
  expect_faults("services: &s {web: {backend: {command: &c [*c], env: *s}}}", "a cycle of lists");

  std::string services = "services:\n  first: &f {backend: {env: {";
  for (int i = 0; i < 20'000; ++i) services += "A" + std::to_string(i) + ": x, ";
  services += "}}}\n";
  for (int i = 0; i < 20'000; ++i) services += "  s" + std::to_string(i) + ": *f\n";
  expect_faults(services, "aliases of a large service");

  std::string words = "services: {web: {backend: {command: [&a \"" + std::string(500'000, 'x') + "\"";
  for (int i = 0; i < 50'000; ++i) words += ", *a";
  expect_faults(words + "]}}}", "a large text repeated by aliases");
}

TEST(HostileText, TooMuchOfEverything) {
  expect_faults(std::string(3U << 20, 'a'), "a large file");
  std::string listen = "services: {web: {listen: [";
  for (int i = 0; i < 60'000; ++i) listen += "\":" + std::to_string(i + 1) + "\", ";
  expect_faults(listen + "]}}", "60,000 addresses");
  std::string keys;
  for (int i = 0; i < 60'000; ++i) keys += "servicesx" + std::to_string(i) + ": 1\n";
  expect_faults(keys, "60,000 unknown keys");
  expect_faults(repeated("threads: 2\n", 60'000), "60,000 duplicates");
  expect_faults("services: {web: {backend: {command: [\"" + repeated("{", 900'000) + "\"]}}}",
                "900,000 braces");
  expect_faults(std::string(900'000, 'k') + ": 1", "a long key");
}

TEST(HostileText, BytesThatAreNoText) {
  expect_faults(std::string("threads: 2\0\n", 12), "a zero byte");
  expect_faults("threads: 2\n\xff\xfe", "not UTF-8");
  expect_faults("threads: 2\n# \xc3", "UTF-8 cut short");
  expect_faults("threads: \"\\0\"", "an escaped zero byte");
  // yaml-cpp takes this byte for the end of the file, and would not see what comes after it.
  const Loaded loaded = load_text("threads: 2\n\x04\nthreads: nonsense\n", "hostile");
  ASSERT_EQ(loaded.faults.size(), 1U);
  EXPECT_EQ(loaded.faults[0].to_string(), "hostile:2:1: a control character, '\\x04': remove it");
}

TEST(HostileText, ByteOrderMarkAndWindowsLineEndsAreFine) {
  const Loaded loaded = load_text(
      "\xEF\xBB\xBFthreads: 2\r\nservices:\r\n  web:\r\n    listen: [\":8080\"]\r\n    backend: {command: "
      "[\"é\"]}\r\n",
      "windows");
  for (const Fault& fault : loaded.faults) ADD_FAILURE() << fault.to_string();
  EXPECT_EQ(loaded.config.threads, 2U);
}

std::string mutated(std::string text, std::mt19937& random) {
  const auto below = [&](std::size_t limit) { return limit == 0 ? 0 : random() % limit; };
  constexpr std::string_view kTelling = "{}[]:,-&*!|>'\"%@#?\n\t \x04\xff";
  for (std::size_t edits = 1 + below(8); edits > 0 && !text.empty(); --edits) {
    const std::size_t at = below(text.size());
    const std::size_t length = std::min<std::size_t>(below(40), text.size() - at);
    switch (below(6)) {
      case 0:
        text[at] = static_cast<char>(random());
        break;
      case 1:
        text[at] = kTelling[below(kTelling.size())];
        break;
      case 2:
        text.insert(at, 1, kTelling[below(kTelling.size())]);
        break;
      case 3:
        text.erase(at, length);
        break;
      case 4:
        text.insert(below(text.size()), text.substr(at, length));
        break;
      default:
        std::swap(text[at], text[below(text.size())]);
        break;
    }
  }
  return text;
}

// Replay one: --gtest_filter=HostileText.MutationsOfTheReference with the seed printed.
TEST(HostileText, MutationsOfTheReference) {
  std::ostringstream reference;
  reference << std::ifstream(std::string(RELAYD_CONFIGS) + "/reference.yaml").rdbuf();
  ASSERT_FALSE(reference.str().empty());
  // Comments only dilute the mutations.
  std::string text;
  std::istringstream lines(reference.str());
  for (std::string line; std::getline(lines, line);) {
    if (const std::size_t start = line.find_first_not_of(' ');
        start != std::string::npos && line[start] != '#') {
      text += line.substr(0, line.find(" #")) + "\n";
    }
  }
  ASSERT_TRUE(load_text(text, "reference").faults.empty());
  int with_faults = 0;
  constexpr int kRounds = 4000;
  for (unsigned seed = 1; seed <= kRounds; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    const std::string mutation = mutated(text, random);
    ASSERT_NO_THROW({
      const Loaded loaded = load_text(mutation, "mutation");
      with_faults += loaded.faults.empty() ? 0 : 1;
      for (const Fault& fault : loaded.faults) {
        ASSERT_GT(fault.line, 0) << fault.to_string() << "\n" << mutation;
        ASSERT_GT(fault.column, 0) << fault.to_string();
      }
    });
  }
  EXPECT_GT(with_faults, kRounds / 2);
}

}  // namespace
}  // namespace relayd::config
