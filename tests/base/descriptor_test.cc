#include "proxy/base/descriptor.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "proxy/base/error.h"

namespace relayd {
namespace {

bool is_open(int fd) { return ::fcntl(fd, F_GETFD) >= 0; }

TEST(Descriptor, ClosesOnDestruction) {
  int number = -1;
  {
    const Descriptor descriptor(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    number = descriptor.get();
    ASSERT_TRUE(is_open(number));
  }
  EXPECT_FALSE(is_open(number));
}

TEST(Descriptor, MovesOwnership) {
  Descriptor from(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const int number = from.get();
  Descriptor to(std::move(from));
  EXPECT_FALSE(from.valid());  // NOLINT(bugprone-use-after-move): what a moved-from one holds is promised
  EXPECT_EQ(to.get(), number);
  Descriptor other(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const int replaced = other.get();
  other = std::move(to);
  EXPECT_FALSE(is_open(replaced));
  EXPECT_EQ(other.get(), number);
  Descriptor& self = other;
  other = std::move(self);
  EXPECT_TRUE(is_open(number));
}

TEST(Descriptor, ReleaseAndReset) {
  Descriptor descriptor(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const int number = descriptor.release();
  EXPECT_FALSE(descriptor);
  EXPECT_TRUE(is_open(number));
  descriptor.reset(number);
  descriptor.reset(number);  // the same one: stays open
  EXPECT_TRUE(is_open(number));
  descriptor.reset();
  EXPECT_FALSE(is_open(number));
}

TEST(Pipe, CarriesBytesAndIsCloseOnExec) {
  const auto ends = make_pipe(O_NONBLOCK);
  ASSERT_TRUE(ends);
  for (const int fd : {ends->read.get(), ends->write.get()}) {
    EXPECT_NE(::fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
    EXPECT_NE(::fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
  }
  EXPECT_EQ(::write(ends->write.get(), "x", 1), 1);
  char byte = 0;
  EXPECT_EQ(::read(ends->read.get(), &byte, 1), 1);
  EXPECT_EQ(byte, 'x');
}

TEST(SetNonblocking, TurnsTheFlagOnAndOff) {
  const auto ends = make_pipe();
  ASSERT_TRUE(ends);
  ASSERT_TRUE(set_nonblocking(ends->read.get(), true));
  EXPECT_NE(::fcntl(ends->read.get(), F_GETFL) & O_NONBLOCK, 0);
  ASSERT_TRUE(set_nonblocking(ends->read.get(), false));
  EXPECT_EQ(::fcntl(ends->read.get(), F_GETFL) & O_NONBLOCK, 0);
  const auto closed = set_nonblocking(-1, true);
  ASSERT_FALSE(closed);
  EXPECT_EQ(closed.error().code, EBADF);
}

TEST(Errors, NameTheErrno) {
  EXPECT_EQ(errno_text(ENOENT), "No such file or directory (ENOENT)");
  EXPECT_EQ(errno_text(99999), "error 99999");
  const Error error = errno_error("cannot open x", EACCES);
  EXPECT_EQ(error.message, "cannot open x: Permission denied (EACCES)");
  EXPECT_EQ(error.code, EACCES);
  errno = EPERM;
  EXPECT_EQ(fail_errno("y").error().code, EPERM);
}

}  // namespace
}  // namespace relayd
