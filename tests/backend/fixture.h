#pragma once

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/resource.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <sstream>
#include <string>
#include <vector>

#include "proxy/backend/instance.h"
#include "proxy/backend/keeper.h"
#include "proxy/backend/pidfd.h"
#include "proxy/base/loop.h"

namespace relayd::backend {

// A folder of its own for each test, removed afterwards.
class TemporaryFolder {
 public:
  TemporaryFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "relayd-backend-XXXXXX").string();
    path_ = ::mkdtemp(pattern.data());
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  const std::string& path() const { return path_; }
  std::string file(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

inline std::string read_text(const std::string& path) {
  std::ifstream file(path);
  std::stringstream text;
  text << file.rdbuf();
  return text.str();
}

// Appears whole or not at all, for whoever waits for it.
inline void write_text(const std::string& path, const std::string& text) {
  std::ofstream(path + ".new") << text;
  std::filesystem::rename(path + ".new", path);
}

inline bool exists(const std::string& path) { return std::filesystem::exists(path); }

// False too for a zombie, which nobody may be there to reap.
inline bool is_running(pid_t pid) {
  const std::string stat = read_text("/proc/" + std::to_string(pid) + "/stat");
  const std::size_t name_end = stat.rfind(')');
  return name_end != std::string::npos && stat.at(name_end + 2) != 'Z' && stat.at(name_end + 2) != 'X';
}

inline std::size_t open_descriptors() {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) ++count;
  return count;
}

// Runs the loop until the condition holds; false after 20 s.
inline bool run_until(Loop& loop, const std::function<bool()>& condition) {
  bool late = false;
  Timer deadline(loop);
  Timer look(loop);  // conditions outside the loop, such as a file that appears
  deadline.start(Duration(20000), [&] { late = true; });
  look.start(
      Duration(5), [] {}, Duration(5));
  while (!condition() && !late) loop.run_once();
  return !late;
}

struct Recorded {
  int ready = 0;
  int healthy = 0;
  std::vector<std::string> unhealthy;
  std::vector<ExitReport> exits;
};

class BackendTest : public testing::Test {
 protected:
  void SetUp() override {
    auto started = Keeper::start();
    ASSERT_TRUE(started) << started.error().message;
    keeper_ = std::make_unique<Keeper>(std::move(*started));
    rlimit files{};
    ASSERT_EQ(::getrlimit(RLIMIT_NOFILE, &files), 0);
    context_ =
        std::make_unique<Context>(Context{loop_, *keeper_, folder_.path(), files.rlim_cur, files.rlim_max});
  }
  void TearDown() override {
    instance_.reset();
    EXPECT_TRUE(loop_.close());
  }

  // A service "web" of this command, in the test's folder, ready at once.
  config::Service service(std::vector<std::string> command,
                          config::Check check = config::Check::kNone) const {
    config::Service result;
    result.name = "web";
    result.backend.command = std::move(command);
    result.backend.directory = folder_.path();
    result.health.check = check;
    result.health.interval = Duration(20);
    return result;
  }
  config::Service shell(const std::string& script, config::Check check = config::Check::kNone) const {
    return service({"sh", "-c", script}, check);
  }
  config::Service python(const std::string& script, config::Check check) const {
    return service({"python3", "-c", script}, check);
  }

  InstanceEvents recording() {
    return {.ready = [this] { ++seen_.ready; },
            .unhealthy = [this](const std::string& error) { seen_.unhealthy.push_back(error); },
            .healthy = [this] { ++seen_.healthy; },
            .exited = [this](const ExitReport& report) { seen_.exits.push_back(report); }};
  }
  // Generation 3, instance 0.
  void make(const config::Service& definition, InstanceEvents events) {
    auto shared = std::make_shared<Definition>(Definition{definition, definition.backend.env});
    instance_ = std::make_unique<Instance>(*context_, shared, 3, 0, std::move(events));
  }
  void start(const config::Service& definition) { start(definition, recording()); }
  void start(const config::Service& definition, InstanceEvents events) {
    make(definition, std::move(events));
    const auto started = instance_->start();
    ASSERT_TRUE(started) << started.error().message;
  }
  bool run_until(const std::function<bool()>& condition) { return backend::run_until(loop_, condition); }
  bool run_until_exit() {
    return run_until([this] { return !seen_.exits.empty(); });
  }
  std::string file(const std::string& name) const { return folder_.file(name); }

  TemporaryFolder folder_;
  Loop loop_;
  std::unique_ptr<Keeper> keeper_;
  std::unique_ptr<Context> context_;
  Recorded seen_;
  std::unique_ptr<Instance> instance_;
};

}  // namespace relayd::backend
