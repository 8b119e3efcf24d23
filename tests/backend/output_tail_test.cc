#include "proxy/backend/output_tail.h"

#include <sys/wait.h>

#include "tests/backend/fixture.h"

namespace relayd::backend {
namespace {

void write_all(int fd, std::string_view text) {
  ASSERT_EQ(::write(fd, text.data(), text.size()), static_cast<ssize_t>(text.size()));
}

class OutputTailTest : public testing::Test {
 protected:
  void make(int copy_to) {
    auto app = make_pipe();
    ASSERT_TRUE(app);
    app_ = std::move(app->write);
    auto tail = OutputTail::create(loop_, std::move(app->read), copy_to);
    ASSERT_TRUE(tail) << tail.error().message;
    tail_ = std::move(*tail);
  }
  void TearDown() override {
    tail_.reset();
    EXPECT_TRUE(loop_.close());
  }
  std::string tail_of(const std::string& written) {
    make(-1);
    write_all(app_.get(), written);
    tail_->drain();
    return tail_->text();
  }

  Loop loop_;
  Descriptor app_;
  std::unique_ptr<OutputTail> tail_;
};

TEST_F(OutputTailTest, KeepsTheLastWholeLines) {
  EXPECT_EQ(tail_of(""), "");
  EXPECT_EQ(tail_of("one\ntwo\n"), "one\ntwo");
  EXPECT_EQ(tail_of("no line end"), "no line end");
  EXPECT_EQ(tail_of("col\x1b[31mour\tx\r\n"), "col?[31mour\tx");

  std::string lines;
  for (int i = 0; i < 1000; ++i) lines += "line " + std::to_string(i) + "\n";
  const std::string text = tail_of(lines);
  EXPECT_LE(text.size(), 2048U);
  EXPECT_GE(text.size(), 2000U);
  EXPECT_THAT(text, testing::StartsWith("line "));
  EXPECT_THAT(text, testing::EndsWith("line 999"));

  EXPECT_EQ(tail_of(std::string(9000, 'x') + "\n").size(), 2047U);  // one line longer than the tail: its end
}

TEST_F(OutputTailTest, PassesOnEverythingInOrder) {
  auto copy = make_pipe(O_NONBLOCK);
  ASSERT_TRUE(copy);
  make(copy->write.get());
  std::string sent;
  std::string got;
  for (int i = 0; i < 30; ++i) sent += std::string(999, static_cast<char>('a' + i % 26)) + "\n";
  write_all(app_.get(), sent);
  ASSERT_TRUE(run_until(loop_, [&] {
    char buffer[65536];
    const ssize_t n = ::read(copy->read.get(), buffer, sizeof buffer);
    if (n > 0) got.append(buffer, static_cast<std::size_t>(n));
    return got.size() >= sent.size();
  }));
  EXPECT_EQ(got, sent);
}

// Standard error that takes nothing (a full pipe, a stopped terminal) must not stop relayd; the app waits
// instead, and nothing is lost once it flows again.
TEST_F(OutputTailTest, FullStandardErrorIsWaitedForWithoutBlocking) {
  auto copy = make_pipe();
  ASSERT_TRUE(copy);
  ASSERT_GE(::fcntl(copy->write.get(), F_SETPIPE_SZ, 4096), 4096);
  write_all(copy->write.get(), std::string(4096, '-'));
  make(copy->write.get());
  write_all(app_.get(), std::string(20000, 'x'));
  for (int i = 0; i < 5; ++i) loop_.run_nowait();  // would hang here
  std::size_t got = 0;
  ASSERT_TRUE(set_nonblocking(copy->read.get(), true));
  ASSERT_TRUE(run_until(loop_, [&] {
    char buffer[65536];
    const ssize_t n = ::read(copy->read.get(), buffer, sizeof buffer);
    if (n > 0) got += static_cast<std::size_t>(n);
    return got >= 24096;
  }));
  EXPECT_EQ(got, 24096U);
}

TEST_F(OutputTailTest, StandardErrorThatNobodyReadsRaisesNoSignal) {
  auto copy = make_pipe();
  ASSERT_TRUE(copy);
  copy->read.reset();
  make(copy->write.get());
  write_all(app_.get(), "last words\n");
  EXPECT_TRUE(run_until(loop_, [&] { return tail_->text() == "last words"; }));
}

TEST_F(OutputTailTest, DrainEndsThoughASurvivorKeepsWriting) {
  make(-1);
  const pid_t writer = ::fork();
  if (writer == 0) {
    const std::string chunk(4096, 'w');
    for (;;) {
      if (::write(app_.get(), chunk.data(), chunk.size()) < 0) ::_exit(0);
    }
  }
  tail_->drain();
  ::kill(writer, SIGKILL);
  EXPECT_EQ(::waitpid(writer, nullptr, 0), writer);
}

}  // namespace
}  // namespace relayd::backend
