#pragma once

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <functional>
#include <memory>
#include <string>

#include "control/protocol/json.h"
#include "control/server/server.h"
#include "proxy/base/address.h"
#include "tests/control/fake_commands.h"

namespace relayd::control {

inline constexpr Duration kPatience{20'000};

// A real server on a real loop, in a folder of its own, with a fake daemon behind it.
class ControlFixture : public testing::Test {
 protected:
  void SetUp() override {
    char folder[] = "/tmp/relayd-control-XXXXXX";
    ASSERT_NE(::mkdtemp(folder), nullptr);
    folder_ = folder;
    options_.socket_path = folder_ + "/relayd.sock";
    tick_ = std::make_unique<Timer>(loop_);
    tick_->start(
        Duration(2), [] {}, Duration(2));
  }
  void TearDown() override {
    server_.reset();
    tick_.reset();
    EXPECT_TRUE(loop_.close());
    ::unlink(options_.socket_path.c_str());
    EXPECT_EQ(::rmdir(folder_.c_str()), 0) << folder_ << " is not empty";
  }
  void start() {
    auto server = Server::start(loop_, options_, commands_);
    ASSERT_TRUE(server) << server.error().message;
    server_ = std::move(*server);
  }
  // What an upgrade by exec(3) leaves of a server: what was saved stays open, and everything else is gone,
  // the daemon's memory too, without a word to anybody. The file stays.
  ServerRecord forget_server() {
    ServerRecord record = server_->save();
    std::vector<int*> kept{&record.fd};
    for (ClientRecord& client : record.clients) kept.push_back(&client.fd);
    const Descriptor nothing(::open("/dev/null", O_RDWR | O_CLOEXEC));
    for (int* fd : kept) {
      const int copy = ::fcntl(*fd, F_DUPFD, 0);
      ::epoll_ctl(uv_backend_fd(loop_.get()), EPOLL_CTL_DEL, *fd, nullptr);
      EXPECT_EQ(::dup2(nothing.get(), *fd), *fd);  // what the old server still says goes nowhere
      *fd = copy;
    }
    const std::string aside = folder_ + "/aside";
    EXPECT_EQ(::rename(options_.socket_path.c_str(), aside.c_str()), 0);
    server_.reset();
    EXPECT_EQ(::rename(aside.c_str(), options_.socket_path.c_str()), 0);
    commands_ = FakeCommands{};
    return record;
  }
  // The new one, which does nothing before its resume().
  void restore(ServerRecord record) {
    auto server = Server::restore(loop_, options_, std::move(record), commands_);
    ASSERT_TRUE(server) << server.error().message;
    server_ = std::move(*server);
  }
  // Runs the loop until it is so; a failure after a long while.
  bool wait_until(const std::function<bool()>& so) {
    const TimePoint end = monotonic_now() + kPatience;
    while (!so()) {
      if (monotonic_now() > end) return false;
      loop_.run_once();
    }
    return true;
  }

  Loop loop_;
  std::unique_ptr<Timer> tick_;  // so that run_once() returns
  std::string folder_;
  ServerOptions options_;
  FakeCommands commands_;
  std::unique_ptr<Server> server_;
};

// The other end, as any language would write it. The fixture's loop must run for anything to happen.
class RawClient {
 public:
  explicit RawClient(const std::string& path)
      : fd_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)) {
    const auto address = SocketAddress::unix_path(path);
    EXPECT_EQ(::connect(fd_.get(), address->get(), address->length()), 0) << errno_text(errno);
  }
  // Bytes that were taken; fewer where the other end does not read.
  std::size_t send(std::string_view bytes) {
    const ssize_t count = ::send(fd_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    return count > 0 ? static_cast<std::size_t>(count) : 0;
  }
  // Takes in what is there. A line, or nothing yet.
  std::optional<std::string> line() {
    take();
    const std::size_t end = input_.find('\n');
    if (end == std::string::npos) return std::nullopt;
    std::string line = input_.substr(0, end);
    input_.erase(0, end + 1);
    return line;
  }
  bool closed() {
    take();
    return closed_;
  }
  void finish() { ::shutdown(fd_.get(), SHUT_WR); }
  void close() { fd_.reset(); }
  int fd() const { return fd_.get(); }

 private:
  void take() {
    char bytes[65536];
    while (fd_ && !closed_) {
      const ssize_t count = ::recv(fd_.get(), bytes, sizeof bytes, MSG_DONTWAIT);
      if (count > 0) {
        input_.append(bytes, static_cast<std::size_t>(count));
      } else {
        closed_ = count == 0 || errno != EAGAIN;
        return;
      }
    }
  }

  Descriptor fd_;
  std::string input_;
  bool closed_ = false;
};

}  // namespace relayd::control
