#include "proxy/base/log.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <pty.h>
#include <sys/socket.h>
#include <termios.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <future>
#include <sstream>
#include <thread>
#include <vector>

#include "proxy/base/descriptor.h"
#include "tests/base/scratch_directory.h"

namespace relayd {
namespace {

using testing::EndsWith;
using testing::HasSubstr;
using testing::MatchesRegex;
using testing::Not;

class LogFile : public testing::Test {
 protected:
  ~LogFile() override { EXPECT_TRUE(log::configure({})); }

  void start(log::Format format, log::Level level = log::Level::kInfo) {
    const auto configured = log::configure({.level = level, .format = format, .file = path_});
    ASSERT_TRUE(configured) << configured.error().message;
  }
  static std::string read(const std::string& path) {
    std::ostringstream text;
    text << std::ifstream(path).rdbuf();
    return text.str();
  }
  std::string text() const { return read(path_); }

  ScratchDirectory directory_;
  std::string path_ = directory_.path() + "/log";
};

TEST_F(LogFile, TextLine) {
  start(log::Format::kText);
  log::warn("instance is slow",
            {{"service", "web"}, {"generation", 3}, {"note", "two words"}, {"empty", ""}});
  EXPECT_THAT(
      text(),
      MatchesRegex("[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}\\.[0-9]{3}[+-][0-9]{2}:[0-9]{2} "
                   "warn  instance is slow service=web generation=3 note=\"two words\" empty=\"\"\n"));
}

TEST_F(LogFile, JsonLine) {
  start(log::Format::kJson);
  log::error("say \"no\"\\", {{"service", "web"}, {"bytes", std::uint64_t{18446744073709551615U}}});
  EXPECT_THAT(text(), MatchesRegex("\\{\"time\":\"[-0-9T:.]+Z\",\"level\":\"error\","
                                   "\"message\":\"say \\\\\"no\\\\\"\\\\\\\\\",.*"));
  EXPECT_THAT(text(), EndsWith("\"service\":\"web\",\"bytes\":18446744073709551615}\n"));
}

TEST_F(LogFile, BracesAreNoFormat) {
  start(log::Format::kText);
  log::info("{} {0} {address} %s %v");
  EXPECT_THAT(text(), HasSubstr("{} {0} {address} %s %v\n"));
}

TEST_F(LogFile, LevelKeepsLowerLinesOut) {
  start(log::Format::kText, log::Level::kWarn);
  log::info("quiet");
  log::error("loud");
  EXPECT_THAT(text(), Not(HasSubstr("quiet")));
  EXPECT_THAT(text(), HasSubstr("loud"));
  start(log::Format::kText, log::Level::kDebug);
  log::debug("detail");
  EXPECT_THAT(text(), HasSubstr("debug detail"));
}

// The standard error of a backend is quoted in messages: it must not forge lines, nor drive a terminal, nor
// break JSON.
TEST_F(LogFile, HostileTextStaysInItsLine) {
  const std::string hostile("a\nforged\x1b[2J\x7f\xff\xc3\xa9\xed\xa0\x80", 20);
  for (const auto format : {log::Format::kText, log::Format::kJson}) {
    std::filesystem::remove(path_);
    start(format);
    log::info(hostile, {{"value", hostile}});
    const std::string line = text();
    EXPECT_EQ(std::ranges::count(line, '\n'), 1);
    EXPECT_EQ(line.find('\x1b'), std::string::npos);
    EXPECT_EQ(line.find('\x7f'), std::string::npos);
    EXPECT_THAT(line, HasSubstr("a\\nforged\\u001b[2J\\u007f\xEF\xBF\xBD\xc3\xa9\xEF\xBF\xBD"));
  }
}

TEST_F(LogFile, ReopenFollowsARotation) {
  start(log::Format::kText);
  log::info("before");
  std::filesystem::rename(path_, path_ + ".1");
  log::info("still the old file");
  ASSERT_TRUE(log::reopen());
  log::info("after");
  EXPECT_THAT(read(path_ + ".1"), HasSubstr("still the old file"));
  EXPECT_THAT(text(), HasSubstr("after"));
  EXPECT_THAT(text(), Not(HasSubstr("before")));
}

TEST_F(LogFile, FailureLeavesTheLogAsItWas) {
  start(log::Format::kText);
  const auto failed = log::configure({.file = directory_.path() + "/none/log"});
  ASSERT_FALSE(failed);
  EXPECT_EQ(failed.error().code, ENOENT);
  EXPECT_THAT(failed.error().message, HasSubstr("/none/log"));
  log::info("goes on");
  EXPECT_THAT(text(), HasSubstr("goes on"));
}

// Backends are forked and exec'd: an inherited log descriptor would keep a rotated file alive for ever.
TEST_F(LogFile, FileIsCloseOnExec) {
  start(log::Format::kText);
  int found = 0;
  for (const auto& entry : std::filesystem::directory_iterator("/proc/self/fd")) {
    std::error_code gone;
    if (std::filesystem::read_symlink(entry.path(), gone) != path_) continue;
    ++found;
    EXPECT_NE(::fcntl(std::stoi(entry.path().filename()), F_GETFD) & FD_CLOEXEC, 0);
  }
  EXPECT_EQ(found, 1);
}

TEST_F(LogFile, LinesOfThreadsDoNotMix) {
  start(log::Format::kText);
  std::vector<std::jthread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([this] {
      for (int i = 0; i < 200; ++i) {
        log::info(std::string(100, 'x'), {{"end", "here"}});
        if (i == 100) {
          EXPECT_TRUE(log::reopen());
        }
      }
    });
  }
  threads.clear();
  std::ifstream file(path_);
  int lines = 0;
  for (std::string line; std::getline(file, line); ++lines) {
    EXPECT_THAT(line, EndsWith(std::string(100, 'x') + " end=here"));
  }
  EXPECT_EQ(lines, 800);
}

// Standard error as whoever starts relayd may leave it: blocking, and with nobody who reads it.
class StandardErrorTest : public testing::Test {
 protected:
  StandardErrorTest() {
    replace_with(Descriptor(::open("/dev/null", O_WRONLY | O_CLOEXEC)));
    log::info("takes with it what other tests have lost");
  }
  ~StandardErrorTest() override {
    ::dup2(before_.get(), STDERR_FILENO);
    EXPECT_TRUE(log::configure({}));
  }
  static void replace_with(Descriptor writer) {
    ASSERT_EQ(::dup2(writer.get(), STDERR_FILENO), STDERR_FILENO);
  }
  void be_a_full_pipe() {
    auto pipe = make_pipe();
    ASSERT_TRUE(pipe);
    reader_ = std::move(pipe->read);
    ASSERT_TRUE(set_nonblocking(reader_.get(), true));
    ASSERT_TRUE(set_nonblocking(pipe->write.get(), true));
    while (::write(pipe->write.get(), "-", 1) == 1) {
    }
    ASSERT_TRUE(set_nonblocking(pipe->write.get(), false));
    replace_with(std::move(pipe->write));
  }
  // Whether the lines are out within 20 s; if they are not, reads until they are.
  bool returns(const std::function<void()>& log_lines) const {
    auto done = std::async(std::launch::async, log_lines);
    const bool in_time = done.wait_for(std::chrono::seconds(20)) == std::future_status::ready;
    while (done.wait_for(std::chrono::milliseconds(1)) != std::future_status::ready) drain();
    return in_time;
  }
  // What there is to read now.
  std::string drain() const {
    std::string text;
    char buffer[4096];
    for (ssize_t got = 0; (got = ::read(reader_.get(), buffer, sizeof buffer)) > 0;)
      text.append(buffer, static_cast<std::size_t>(got));
    return text;
  }
  void expect_whole_lines_and_their_count(int count, const std::string& filler);

  Descriptor before_{::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3)};
  Descriptor reader_;
};

TEST_F(StandardErrorTest, FullPipeNeverStopsTheLogAndTheLostLinesAreCounted) {
  be_a_full_pipe();
  EXPECT_TRUE(returns([] {
    for (int i = 0; i < 3; ++i) log::info("nobody sees this");
  }));
  EXPECT_EQ(::fcntl(STDERR_FILENO, F_GETFL) & O_NONBLOCK, 0) << "the flag is everybody's who shares it";
  EXPECT_THAT(drain(), MatchesRegex("-+"));
  log::info("read again");
  EXPECT_THAT(drain(), MatchesRegex("[^ ]+ warn  3 lines lost: nobody reads standard error\n"
                                    "[^ ]+ info  read again\n"));
  log::info("and again");
  EXPECT_THAT(drain(), Not(HasSubstr("lost")));  // told once
}

TEST_F(StandardErrorTest, CountOfLostLinesOutlivesAChangeOfTheLogAndIsJsonInJson) {
  be_a_full_pipe();
  EXPECT_TRUE(returns([] { log::info("nobody sees this"); }));
  ASSERT_TRUE(log::configure({.format = log::Format::kJson, .file = ""}));
  drain();
  log::info("read again");
  EXPECT_THAT(drain(), MatchesRegex("\\{.*\"message\":\"1 line lost: nobody reads standard error\"\\}\n"
                                    "\\{.*\"message\":\"read again\"\\}\n"));
}

// Terminals and stream sockets take a part of a line where the rest does not fit.
void StandardErrorTest::expect_whole_lines_and_their_count(int count, const std::string& filler) {
  EXPECT_TRUE(returns([&] {
    for (int i = 0; i < count; ++i) log::info(filler);
  }));
  std::string text = drain();
  log::info("read again");
  text += drain();
  EXPECT_THAT(text, EndsWith("info  read again\n"));
  std::istringstream lines(text);
  int whole = 0;
  int lost = 0;
  for (std::string line; std::getline(lines, line);) {
    if (const auto at = line.find(" lines lost"); at != std::string::npos) {
      lost += std::stoi(line.substr(line.rfind(' ', at - 1)));
    } else if (!line.ends_with("read again")) {
      EXPECT_THAT(line, EndsWith("info  " + filler));
      ++whole;
    }
  }
  EXPECT_GT(lost, 0);
  EXPECT_EQ(whole + lost, count);
}

TEST_F(StandardErrorTest, StalledTerminalGetsWholeLinesAndTheCountOfTheOthers) {
  termios raw{};
  ::cfmakeraw(&raw);
  int ends[2];
  if (::openpty(&ends[0], &ends[1], nullptr, &raw, nullptr) != 0)
    GTEST_SKIP() << "no terminals here (/dev/pts)";
  reader_.reset(ends[0]);
  replace_with(Descriptor(ends[1]));
  ASSERT_TRUE(set_nonblocking(reader_.get(), true));
  expect_whole_lines_and_their_count(500, std::string(999, 'x'));
}

TEST_F(StandardErrorTest, StalledSocketGetsWholeLinesAndTheCountOfTheOthers) {
  int ends[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
  reader_.reset(ends[0]);
  replace_with(Descriptor(ends[1]));
  ASSERT_TRUE(set_nonblocking(reader_.get(), true));
  expect_whole_lines_and_their_count(50, std::string(70000, 'x'));
}

TEST_F(StandardErrorTest, ThatNobodyCanReadAnyMoreRaisesNoSignal) {
  auto pipe = make_pipe();
  ASSERT_TRUE(pipe);
  replace_with(std::move(pipe->write));
  pipe->read.reset();
  log::info("nobody sees this");  // SIGPIPE would end the test
}

}  // namespace
}  // namespace relayd
