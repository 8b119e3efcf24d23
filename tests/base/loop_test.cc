#include "proxy/base/loop.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <memory>
#include <optional>
#include <thread>

#include "proxy/base/descriptor.h"

namespace relayd {
namespace {

using std::chrono_literals::operator""h;
using std::chrono_literals::operator""ms;
using std::chrono_literals::operator""s;

// Ends the loop, and the test with a failure, where what it waits for never comes.
class Watchdog {
 public:
  explicit Watchdog(Loop& loop) : timer_(loop) {
    timer_.start(20s, [&loop] {
      ADD_FAILURE() << "nothing happened for 20 s";
      loop.stop();
    });
  }

 private:
  Timer timer_;
};

TEST(LoopTest, ClosesCleanWithNothingInIt) {
  Loop loop;
  loop.run();
  EXPECT_TRUE(loop.close());
  EXPECT_TRUE(loop.close());  // again: no harm
}

TEST(LoopTest, CloseReportsAHandleThatIsStillOpen) {
  Loop loop;
  auto leaked = std::make_unique<Timer>(loop);
  EXPECT_FALSE(loop.close());
  leaked->start(1h, [] {});
  EXPECT_FALSE(loop.close());
  leaked.reset();
  EXPECT_TRUE(loop.close());
}

TEST(TimerTest, FiresOnceAndIsThenInactive) {
  Loop loop;
  {
    const Watchdog watchdog(loop);
    Timer timer(loop);
    int fired = 0;
    EXPECT_FALSE(timer.active());
    timer.start(1ms, [&] {
      ++fired;
      loop.stop();
    });
    EXPECT_TRUE(timer.active());
    loop.run();
    EXPECT_EQ(fired, 1);
    EXPECT_FALSE(timer.active());
  }
  EXPECT_TRUE(loop.close());
}

TEST(TimerTest, RepeatsUntilStoppedInItsOwnCallback) {
  Loop loop;
  Timer timer(loop);
  int fired = 0;
  timer.start(
      0ms,
      [&] {
        if (++fired == 3) timer.stop();
      },
      1ms);
  loop.run();  // ends by itself: a stopped timer keeps no loop alive
  EXPECT_EQ(fired, 3);
  { Timer unused(loop); }
  timer.start(-5ms, [&] { ++fired; });  // in the past: at once
  loop.run();
  EXPECT_EQ(fired, 4);
}

TEST(TimerTest, RestartReplacesTheCallback) {
  Loop loop;
  {
    Timer timer(loop);
    std::string order;
    timer.start(1h, [&] { order += "never"; });
    timer.start(0ms, [&] {
      order += "a";
      timer.start(0ms, [&] { order += "b"; });  // from inside: the running callback is not pulled away
      order += "c";
    });
    loop.run();
    EXPECT_EQ(order, "acb");
  }
  EXPECT_TRUE(loop.close());
}

TEST(TimerTest, MayDieInItsOwnCallback) {
  Loop loop;
  auto timer = std::make_unique<Timer>(loop);
  const auto captured = std::make_shared<int>(7);
  int seen = 0;
  timer->start(0ms, [&timer, captured, &seen] {
    timer.reset();
    seen = *captured;  // the callback's own state outlives the wrapper
  });
  loop.run();
  EXPECT_EQ(seen, 7);
  EXPECT_TRUE(loop.close());
}

TEST(PollTest, ReportsReadableAndMayDieInItsOwnCallback) {
  Loop loop;
  const auto ends = make_pipe(O_NONBLOCK);
  ASSERT_TRUE(ends);
  int events = 0;
  {
    const Watchdog watchdog(loop);
    std::unique_ptr<Poll> poll;
    auto made = Poll::create(loop, ends->read.get(), UV_READABLE, [&](int fired) {
      events = fired;
      poll.reset();
      loop.stop();
    });
    ASSERT_TRUE(made);
    poll = std::move(*made);
    ASSERT_EQ(::write(ends->write.get(), "x", 1), 1);
    loop.run();
  }
  EXPECT_EQ(events, UV_READABLE);
  EXPECT_TRUE(loop.close());
}

TEST(PollTest, StopAndSetEvents) {
  Loop loop;
  int fds[2];
  ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
  const Descriptor ours(fds[0]);
  const Descriptor theirs(fds[1]);
  {
    const Watchdog watchdog(loop);
    int events = 0;
    auto poll = Poll::create(loop, ours.get(), UV_READABLE, [&](int fired) {
      events |= fired;
      loop.stop();
    });
    ASSERT_TRUE(poll);
    loop.run_nowait();
    EXPECT_EQ(events, 0);  // nothing to read
    (*poll)->set_events(UV_WRITABLE);
    loop.run();
    EXPECT_EQ(events, UV_WRITABLE);
    (*poll)->stop();
    events = 0;
    loop.run_nowait();
    EXPECT_EQ(events, 0);
  }
  EXPECT_TRUE(loop.close());
}

TEST(PollTest, RefusesWhatCannotBeWatched) {
  Loop loop;
  const auto poll = Poll::create(loop, -1, UV_READABLE, [](int) {});
  ASSERT_FALSE(poll);
  EXPECT_EQ(poll.error().code, EBADF);
  EXPECT_TRUE(loop.close());
}

TEST(AsyncTest, WakesTheLoopFromAnotherThread) {
  Loop loop;
  {
    const Watchdog watchdog(loop);
    std::optional<Async> async;
    const auto loop_thread = std::this_thread::get_id();
    bool on_loop = false;
    async.emplace(loop, [&] {
      on_loop = std::this_thread::get_id() == loop_thread;
      async.reset();  // inside its own callback
      loop.stop();
    });
    const std::jthread sender([&] { async->send(); });
    loop.run();
    EXPECT_TRUE(on_loop);
  }
  EXPECT_TRUE(loop.close());
}

TEST(SignalTest, IsDeliveredToTheLoop) {
  Loop loop;
  {
    const Watchdog watchdog(loop);
    int seen = 0;
    const Signal usr1(loop, SIGUSR1, [&] {
      ++seen;
      loop.stop();
    });
    ASSERT_EQ(::raise(SIGUSR1), 0);
    loop.run();
    EXPECT_EQ(seen, 1);
  }
  EXPECT_TRUE(loop.close());
}

TEST(SignalTest, RefusesWhatCannotBeCaughtAndLeaksNothing) {
  Loop loop;
  EXPECT_THROW(Signal(loop, SIGKILL, [] {}), std::runtime_error);
  EXPECT_TRUE(loop.close());
}

}  // namespace
}  // namespace relayd
