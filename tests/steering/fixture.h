#pragma once

#include <gtest/gtest.h>
#include <sys/types.h>

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "proxy/base/address.h"
#include "proxy/base/descriptor.h"
#include "proxy/steering/listeners.h"
#include "proxy/steering/socket_list.h"
#include "proxy/steering/switch.h"

namespace relayd::steering {

// Why steering cannot be tried here; empty: it can. This program runs in a network namespace of its own then.
const std::string& no_means();

// A listening socket; errors end the test program.
Descriptor listening(const std::string& address, bool reuse_port = false, bool ipv6_only = true);

struct AppOptions {
  std::vector<std::string> listen{"127.0.0.1:0"};
  bool ipv6_only = true;
  int reuse_port = 1;  // sockets per address, as a SO_REUSEPORT group
  int workers = 0;     // forked processes that accept; 0: the first process does
  bool keep = false;   // keeps its connections open after the greeting
  bool deaf = false;   // listens, and never accepts
};

// An unsuspecting app: a process in a group of its own that greets each connection with one letter and closes
// it. Killed with its group when this dies.
class App {
 public:
  App(char letter, const AppOptions& options = {});
  ~App() { kill(); }
  App(const App&) = delete;
  App& operator=(const App&) = delete;

  void kill();
  pid_t group() const { return pid_; }
  std::uint16_t port(std::size_t index = 0) const { return ports_[index]; }
  // Its listening sockets, duplicated.
  std::vector<FoundListener> listeners(SocketList& sockets) const;

 private:
  pid_t pid_ = -1;
  std::vector<std::uint16_t> ports_;
};

Descriptor connect_to(const SocketAddress& address);
// The letter with which a connection is greeted; '!' refused or reset, '0' ended without, '?' nothing within
// 5 s.
char greeting(int connection);
char ask(const SocketAddress& address);

// A public address on which relayd listens, and its switch.
class SteeringTest : public testing::Test {
 protected:
  void SetUp() override;
  // The public listener accepts and greets with 'r' if a connection waits in it.
  bool public_has_one(const Descriptor& listener);
  void steer(Switch::Service service, const std::vector<const App*>& apps);
  SocketAddress at(const Descriptor& listener, const std::string& host);

  std::unique_ptr<Switch> switch_;
  std::optional<SocketList> sockets_;
  std::vector<FoundListener> held_;
};

}  // namespace relayd::steering
