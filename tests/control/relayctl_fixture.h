#pragma once

#include <gmock/gmock.h>
#include <spawn.h>
#include <sys/wait.h>

#include <csignal>
#include <utility>

#include "control/protocol/syntax.h"
#include "tests/control/control_fixture.h"

namespace relayd::control {

struct Ended {
  int code = -1;
  std::string out;
  std::string err;
};

// relayctl as people run it, a process of its own, against a real server with a fake daemon.
class Relayctl : public ControlFixture {
 protected:
  using Words = std::vector<std::string>;

  // Starts relayctl with its output on these descriptors.
  pid_t spawn(const Words& words, int out, int err, const Words& environment) {
    Words arguments{RELAYCTL};
    arguments.insert(arguments.end(), words.begin(), words.end());
    std::vector<char*> argv, envp;
    for (std::string& word : arguments) argv.push_back(word.data());
    Words all = environment;
    for (std::string& word : all) envp.push_back(word.data());
    argv.push_back(nullptr);
    envp.push_back(nullptr);
    posix_spawn_file_actions_t files;
    posix_spawn_file_actions_init(&files);
    posix_spawn_file_actions_adddup2(&files, out, 1);
    posix_spawn_file_actions_adddup2(&files, err, 2);
    pid_t pid = -1;
    EXPECT_EQ(::posix_spawn(&pid, RELAYCTL, &files, nullptr, argv.data(), envp.data()), 0);
    posix_spawn_file_actions_destroy(&files);
    return pid;
  }
  // Runs it to its end, the loop too. `meanwhile` is called again and again.
  Ended run(
      Words words,
      const std::function<void(pid_t, const std::string&)>& meanwhile = [](pid_t, const std::string&) {},
      Words environment = {}) {
    if (environment.empty()) environment = {"RELAYD_SOCKET=" + options_.socket_path};
    auto out = make_pipe(O_NONBLOCK), err = make_pipe(O_NONBLOCK);
    const pid_t pid = spawn(words, out->write.get(), err->write.get(), environment);
    out->write.reset();
    err->write.reset();
    Ended ended;
    int status = 0;
    const bool in_time = wait_until([&] {
      read_all(out->read.get(), ended.out);
      read_all(err->read.get(), ended.err);
      meanwhile(pid, ended.out);
      return ::waitpid(pid, &status, WNOHANG) == pid;
    });
    if (!in_time) {
      ADD_FAILURE() << "relayctl did not end: " << ended.out << ended.err;
      ::kill(pid, SIGKILL);
      ::waitpid(pid, &status, 0);
    }
    read_all(out->read.get(), ended.out);
    read_all(err->read.get(), ended.err);
    ended.code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return ended;
  }
  static void read_all(int fd, std::string& into) {
    char bytes[65536];
    for (ssize_t count; (count = ::read(fd, bytes, sizeof bytes)) > 0;)
      into.append(bytes, static_cast<std::size_t>(count));
  }
  static std::vector<std::string> lines_of(const std::string& text) {
    std::vector<std::string> lines;
    for (std::size_t start = 0; start < text.size();) {
      const std::size_t end = std::min(text.find('\n', start), text.size());
      lines.push_back(text.substr(start, end - start));
      start = end + 1;
    }
    return lines;
  }
  // Exactly one line, which is JSON.
  static void expect_one_document(const std::string& out) {
    const auto lines = lines_of(out);
    ASSERT_EQ(lines.size(), 1u) << out;
    EXPECT_EQ(syntax_problem(lines[0]), std::nullopt) << out;
  }
  static RolloverResult done() { return {"web", "phased", "done", "", 1, 2, 900, false, {}}; }
  static RolloverResult failed() {
    return {"web", "phased", "failed", "exit status 3\nlast lines of its stderr:\nImportError: app", 2, 3,
            900,   false,    {}};
  }
};

}  // namespace relayd::control
