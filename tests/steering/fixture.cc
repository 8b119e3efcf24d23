#include "tests/steering/fixture.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <net/if.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace relayd::steering {
namespace {

std::string reason;

[[noreturn]] void give_up(const char* what) {
  std::perror(what);
  std::abort();
}

void enter_namespace() {
  if (::unshare(CLONE_NEWNET) != 0) {
    reason = std::string("no network namespace of its own: unshare: ") + std::strerror(errno);
    return;
  }
  const Descriptor any(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ifreq request{};
  std::strcpy(request.ifr_name, "lo");
  request.ifr_flags = IFF_UP;
  if (::ioctl(any.get(), SIOCSIFFLAGS, &request) != 0) reason = "the loopback interface does not come up";
  auto tried = Switch::attach();
  if (!tried) reason = tried.error().message;
}

std::uint16_t port_of(int socket) { return local_address(socket)->port(); }

[[noreturn]] void serve(const std::vector<Descriptor>& listeners, char letter, bool keep) {
  std::vector<pollfd> ready;
  for (const Descriptor& listener : listeners) ready.push_back({listener.get(), POLLIN, 0});
  while (true) {
    ::poll(ready.data(), ready.size(), -1);
    for (const pollfd& one : ready) {
      if ((one.revents & POLLIN) == 0) continue;
      const int connection = ::accept4(one.fd, nullptr, nullptr, SOCK_CLOEXEC);
      if (connection < 0) continue;
      if (::send(connection, &letter, 1, MSG_NOSIGNAL) < 0) continue;
      if (!keep) ::close(connection);
    }
  }
}

[[noreturn]] void run_app(char letter, const AppOptions& options, int report) {
  ::setpgid(0, 0);
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  std::vector<Descriptor> listeners;
  for (const std::string& text : options.listen) {
    std::string address = text;
    for (int i = 0; i < options.reuse_port; ++i) {
      listeners.push_back(listening(address, options.reuse_port > 1, options.ipv6_only));
      if (i == 0) address = local_address(listeners.back().get())->to_string();
    }
    const std::uint16_t port = port_of(listeners.back().get());
    if (::write(report, &port, sizeof port) != sizeof port) ::_exit(1);
  }
  ::close(report);
  if (options.deaf) {
    while (true) ::pause();
  }
  for (int i = 0; i < options.workers; ++i) {
    if (::fork() == 0) serve(listeners, letter, options.keep);
  }
  if (options.workers > 0) {
    while (true) ::pause();
  }
  serve(listeners, letter, options.keep);
}

}  // namespace

const std::string& no_means() { return reason; }

Descriptor listening(const std::string& text, bool reuse_port, bool ipv6_only) {
  const SocketAddress address = *SocketAddress::parse(text);
  Descriptor socket(::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  const int on = 1, only = ipv6_only ? 1 : 0;
  ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
  if (reuse_port) ::setsockopt(socket.get(), SOL_SOCKET, SO_REUSEPORT, &on, sizeof on);
  if (address.family() == AF_INET6) ::setsockopt(socket.get(), IPPROTO_IPV6, IPV6_V6ONLY, &only, sizeof only);
  if (::bind(socket.get(), address.get(), address.length()) != 0) give_up("bind");
  if (::listen(socket.get(), 4096) != 0) give_up("listen");
  return socket;
}

App::App(char letter, const AppOptions& options) {
  auto report = make_pipe();
  pid_ = ::fork();
  if (pid_ < 0) give_up("fork");
  if (pid_ == 0) run_app(letter, options, report->write.get());
  report->write.reset();
  std::uint16_t port = 0;
  while (::read(report->read.get(), &port, sizeof port) == sizeof port) ports_.push_back(port);
  if (ports_.size() != options.listen.size()) give_up("the app does not listen");
}

void App::kill() {
  if (pid_ < 0) return;
  ::kill(-pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
  pid_ = -1;
}

std::vector<FoundListener> App::listeners(SocketList& sockets) const {
  std::vector<FoundListener> all;
  for (const std::uint16_t port : ports_) {
    auto found = find_listeners(sockets, pid_, port);
    EXPECT_TRUE(found) << found.error().message;
    if (!found) continue;
    for (auto& one : *found) all.push_back(std::move(one));
  }
  return all;
}

Descriptor connect_to(const SocketAddress& address) {
  Descriptor socket(::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (::connect(socket.get(), address.get(), address.length()) != 0) socket.reset();
  return socket;
}

char greeting(int connection) {
  if (connection < 0) return '!';
  pollfd ready{connection, POLLIN, 0};
  if (::poll(&ready, 1, 5000) != 1) return '?';
  char letter = '0';
  const ssize_t length = ::recv(connection, &letter, 1, 0);
  return length < 0 ? '!' : letter;
}

char ask(const SocketAddress& address) {
  const Descriptor connection = connect_to(address);
  return greeting(connection.get());
}

void SteeringTest::SetUp() {
  if (!no_means().empty()) GTEST_SKIP() << no_means();
  switch_ = *Switch::attach();
  sockets_.emplace(*SocketList::open());
}

bool SteeringTest::public_has_one(const Descriptor& listener) {
  pollfd ready{listener.get(), POLLIN, 0};
  ::poll(&ready, 1, 0);
  const Descriptor connection(::accept4(listener.get(), nullptr, nullptr, SOCK_CLOEXEC));
  return connection.valid() && ::send(connection.get(), "r", 1, MSG_NOSIGNAL) == 1;
}

void SteeringTest::steer(Switch::Service service, const std::vector<const App*>& apps) {
  std::vector<FoundListener> found;
  std::vector<int> fds;
  for (const App* app : apps) {
    for (auto& one : app->listeners(*sockets_)) {
      fds.push_back(one.socket.get());
      found.push_back(std::move(one));
    }
  }
  auto done = switch_->steer(service, fds);
  ASSERT_TRUE(done) << done.error().message;
  held_ = std::move(found);
}

SocketAddress SteeringTest::at(const Descriptor& listener, const std::string& host) {
  return *SocketAddress::parse(host + ":" + std::to_string(port_of(listener.get())));
}

}  // namespace relayd::steering

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  relayd::steering::enter_namespace();
  const std::string& lacking = relayd::steering::no_means();
  if (!lacking.empty()) std::printf("Only the refusals are tested: %s\n", lacking.c_str());
  return RUN_ALL_TESTS();
}
