#include <gtest/gtest.h>
#include <signal.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <set>
#include <sstream>

#include "proxy/config/loader.h"

// The files of configs/ are documentation that runs: each loads without a fault, and the reference shows
// every key.
namespace relayd::config {
namespace {

const std::string kFolder = RELAYD_CONFIGS;

std::string faults_of(const Loaded& loaded) {
  std::string text;
  for (const Fault& fault : loaded.faults) text += fault.to_string() + "\n";
  return text;
}

std::string text_of(const std::string& path) {
  std::ostringstream text;
  text << std::ifstream(path).rdbuf();
  return text.str();
}

TEST(Configs, EveryFileLoads) {
  std::set<std::string> seen;
  for (const auto& entry : std::filesystem::directory_iterator(kFolder)) {
    if (entry.path().extension() != ".yaml") continue;
    seen.insert(entry.path().filename());
    const std::string faults = faults_of(load_file(entry.path()));
    // The one that needs more than the files: the right to connect from foreign addresses.
    if (entry.path().filename() == "transparent.yaml" && faults.find("CAP_NET_ADMIN") != std::string::npos) {
      continue;
    }
    EXPECT_EQ(faults, "");
  }
  for (const char* name :
       {"minimal.yaml", "gunicorn.yaml", "hot.yaml", "http.yaml", "reference.yaml", "transparent.yaml"}) {
    EXPECT_TRUE(seen.contains(name)) << name;
  }
}

TEST(Configs, HotAndGunicornSayWhatTheyAreFor) {
  EXPECT_EQ(load_file(kFolder + "/hot.yaml").config.services.at(0).rollover.mode, Mode::kHot);
  const Loaded gunicorn = load_file(kFolder + "/gunicorn.yaml");
  EXPECT_EQ(gunicorn.config.services.at(0).health.path, "/");
  EXPECT_EQ(gunicorn.config.services.at(0).backend.address, AddressKind::kSocket);
}

// What the reference shows as defaults are the defaults.
TEST(Configs, ReferenceShowsTheDefaults) {
  const Service shown = load_file(kFolder + "/reference.yaml").config.services.at(0);
  Service expected;
  expected.name = shown.name;
  expected.listen = shown.listen;
  expected.backend.command = shown.backend.command;
  expected.backend.directory = "/srv";
  expected.backend.env = {{"APP_ENV", "production"}, {"APP_RELEASE", "{generation}"}};
  expected.backend.user = expected.backend.group = "www-data";
  expected.backend.nofile = 65536;
  expected.health.path = "/up";
  EXPECT_EQ(shown, expected);
}

bool is_key_char(char c) { return (c >= 'a' && c <= 'z') || c == '_'; }

// The keys at the beginning of a line, live or in a comment.
std::set<std::string> keys_shown(const std::string& text) {
  std::set<std::string> keys;
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    const std::size_t start = std::min(line.find_first_not_of(" #"), line.size());
    const auto end =
        std::find_if_not(line.begin() + static_cast<std::ptrdiff_t>(start), line.end(), is_key_char);
    if (end != line.end() && *end == ':')
      keys.emplace(line.begin() + static_cast<std::ptrdiff_t>(start), end);
  }
  return keys;
}

// The names in a fault's "there are a, b or c".
std::vector<std::string> names_listed(const std::string& fault) {
  std::vector<std::string> names;
  const std::size_t list = fault.find("there are ");
  if (list == std::string::npos) return names;
  std::istringstream words(fault.substr(list + 10));
  for (std::string word; words >> word;) {
    if (word != "or") names.push_back(word.substr(0, word.find(',')));
  }
  return names;
}

// Every key that a section knows stands in the reference. The keys come from the loader's own answer to a key
// that nobody knows.
TEST(Configs, ReferenceShowsEveryKey) {
  const std::set<std::string> shown = keys_shown(text_of(kFolder + "/reference.yaml"));
  const std::string probes[] = {
      "qqqqqqqq: 1",
      "control: {qqqqqqqq: 1}",
      "admin: {qqqqqqqq: 1}",
      "log: {qqqqqqqq: 1}",
      "services: {w: {qqqqqqqq: 1}}",
      "services: {w: {proxy_protocol: {qqqqqqqq: 1}}}",
      "services: {w: {limits: {qqqqqqqq: 1}}}",
      "services: {w: {backend: {qqqqqqqq: 1}}}",
      "services: {w: {backend: {limits: {qqqqqqqq: 1}}}}",
      "services: {w: {backend: {restart_delay: {qqqqqqqq: 1}}}}",
      "services: {w: {health: {qqqqqqqq: 1}}}",
      "services: {w: {rollover: {qqqqqqqq: 1}}}",
      "services: {w: {hold: {qqqqqqqq: 1}}}",
  };
  std::size_t keys = 0;
  for (const std::string& probe : probes) {
    const std::vector<Fault> faults = load_text(probe, "probe").faults;
    const auto unknown = std::ranges::find_if(
        faults, [](const Fault& fault) { return fault.message.find("qqqqqqqq") != std::string::npos; });
    ASSERT_NE(unknown, faults.end()) << probe;
    for (const std::string& name : names_listed(unknown->message)) {
      ++keys;
      EXPECT_TRUE(shown.contains(name)) << name;
    }
  }
  EXPECT_EQ(keys, 65U);  // of the contract: a new one is counted here
}

}  // namespace
}  // namespace relayd::config
