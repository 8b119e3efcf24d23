#include <linux/capability.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>

#include "proxy/steering/diagnosis.h"
#include "tests/steering/fixture.h"

namespace relayd::steering {
namespace {

// Takes these from the calling process's effective and permitted sets.
void drop(std::initializer_list<unsigned> capabilities) {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {};
  ::syscall(SYS_capget, &header, data);
  for (const unsigned one : capabilities) {
    data[one / 32].effective &= ~(1U << (one % 32));
    data[one / 32].permitted &= ~(1U << (one % 32));
  }
  ::syscall(SYS_capset, &header, data);
}

// What a child says in which `work` has run.
std::string said_by_child(const std::function<std::string()>& work) {
  auto words = make_pipe();
  const pid_t child = ::fork();
  if (child == 0) {
    const std::string text = work();
    const ssize_t written = ::write(words->write.get(), text.data(), text.size());
    ::_exit(written < 0 ? 1 : 0);
  }
  words->write.reset();
  std::string text(4096, '\0');
  const ssize_t length = ::read(words->read.get(), text.data(), text.size());
  text.resize(length < 0 ? 0 : static_cast<std::size_t>(length));
  ::waitpid(child, nullptr, 0);
  return text;
}

std::string refusal_without(std::initializer_list<unsigned> capabilities) {
  return said_by_child([&]() -> std::string {
    drop(capabilities);
    auto attached = Switch::attach();
    return attached ? "attached" : attached.error().message;
  });
}

constexpr char kCure[] =
    " (in a unit: AmbientCapabilities=CAP_BPF CAP_NET_ADMIN; docker run --cap-add BPF --cap-add NET_ADMIN, "
    "and SYS_PTRACE where the app changes its user): "
    "Operation not permitted (EPERM)";

// Works without any privilege, and is all that is tested there.
TEST(RefusalTest, WithoutCapabilitiesItNamesBoth) {
  const std::string said =
      refusal_without({CAP_BPF, CAP_SYS_ADMIN, CAP_NET_ADMIN, CAP_PERFMON, CAP_SYS_PTRACE});
  EXPECT_EQ(said, std::string("steering is not possible here: relayd lacks CAP_BPF (or CAP_SYS_ADMIN) and "
                              "CAP_NET_ADMIN") +
                      kCure);
}

TEST(RefusalTest, OneThatIsMissingIsNamedAlone) {
  if (!no_means().empty()) GTEST_SKIP() << no_means();
  EXPECT_EQ(refusal_without({CAP_BPF, CAP_SYS_ADMIN}),
            std::string("steering is not possible here: relayd lacks CAP_BPF (or CAP_SYS_ADMIN)") + kCure);
  EXPECT_EQ(refusal_without({CAP_SYS_ADMIN, CAP_NET_ADMIN}),
            std::string("steering is not possible here: relayd lacks CAP_NET_ADMIN") + kCure);
}

TEST(RefusalTest, EitherOfTheTwoIsEnough) {
  if (!no_means().empty()) GTEST_SKIP() << no_means();
  EXPECT_EQ(refusal_without({CAP_BPF}), "attached");
  EXPECT_EQ(refusal_without({CAP_SYS_ADMIN}), "attached");
}

TEST(RefusalTest, AUserNamespaceIsNamed) {
  if (!no_means().empty()) GTEST_SKIP() << no_means();
  const std::string said = said_by_child([]() -> std::string {
    if (::unshare(CLONE_NEWUSER | CLONE_NEWNET) != 0) return "no user namespace";
    auto attached = Switch::attach();
    return attached ? "attached" : attached.error().message;
  });
  if (said == "no user namespace") GTEST_SKIP() << said;
  EXPECT_NE(said.find("relayd runs in a user namespace"), said.npos) << said;
}

TEST(RefusalTest, ErrorsOfKernelsThatCannotBeTriedHereHaveWords) {
  EXPECT_NE(diagnose(Step::kMap, ENOSYS).message.find("has no bpf(2) (CONFIG_BPF_SYSCALL)"),
            std::string::npos);
  EXPECT_NE(diagnose(Step::kSocketMap, EINVAL).message.find("CONFIG_BPF_STREAM_PARSER"), std::string::npos);
  EXPECT_NE(diagnose(Step::kLink, E2BIG).message.find("bpftool net"), std::string::npos);
  EXPECT_NE(
      diagnose(Step::kProgram, EACCES, "0: r1 = r1\nR9 !read_ok\n").message.find("program: R9 !read_ok"),
      std::string::npos);
}

TEST(ListenersTest, NobodyOnThePortIsSaid) {
  auto sockets = SocketList::open();
  ASSERT_TRUE(sockets) << sockets.error().message;
  const App app('a');
  auto found = find_listeners(*sockets, app.group(), 1);
  ASSERT_FALSE(found);
  EXPECT_EQ(found.error().code, ENOENT);
  EXPECT_NE(found.error().message.find("listens on TCP port 1 in relayd's network namespace"),
            std::string::npos)
      << found.error().message;
}

// The sockets that others hold are not the group's, on the same port or not.
TEST(ListenersTest, AllOfTheGroupAreFoundOnceEach) {
  auto sockets = SocketList::open();
  ASSERT_TRUE(sockets);
  const App app('a', {.reuse_port = 3, .workers = 4}), other('b');
  auto found = find_listeners(*sockets, app.group(), app.port());
  ASSERT_TRUE(found) << found.error().message;
  EXPECT_EQ(found->size(), 3U);
  for (const auto& one : *found) EXPECT_EQ(one.address.port(), app.port());
  EXPECT_FALSE(find_listeners(*sockets, other.group(), app.port()));
}

TEST(ListenersTest, WithoutPtraceRightTheCureIsNamed) {
  if (!no_means().empty()) GTEST_SKIP() << no_means();
  const App app('a');  // root's, with all of root's capabilities
  const std::string said = said_by_child([&]() -> std::string {
    auto sockets = SocketList::open();
    if (::setresgid(65534, 65534, 65534) != 0 || ::setresuid(65534, 65534, 65534) != 0)
      return "cannot change";
    auto found = find_listeners(*sockets, app.group(), app.port());
    return found ? "found" : found.error().message;
  });
  EXPECT_NE(said.find("or relayd needs CAP_SYS_PTRACE)"), said.npos) << said;
  EXPECT_NE(said.find("process " + std::to_string(app.group())), said.npos) << said;
}

}  // namespace
}  // namespace relayd::steering
