#pragma once

#include <gtest/gtest.h>

#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "proxy/net/data_plane.h"

// Real sockets and a real data plane. Worker threads run by themselves; the test's thread plays clients and
// backends with blocking calls, each of which fails after kPatience, and runs the main loop only to await
// callbacks.
namespace relayd::net::test {

inline constexpr Duration kPatience{20'000};

// What a peer got until the end, and how it ended.
struct Received {
  std::string bytes;
  int error = 0;  // 0: FIN; ECONNRESET; EAGAIN where nothing came for kPatience
};

// A connected blocking socket.
class Peer {
 public:
  explicit Peer(Descriptor socket);
  static Peer connect(const SocketAddress& address, int receive_buffer = 0);

  int fd() const { return socket_.get(); }
  void send(std::string_view bytes);      // all of them, or the test fails
  bool try_send(std::string_view bytes);  // false with errno on failure
  std::string receive(std::size_t size);  // exactly, or the test fails
  Received receive_all();
  bool nothing_arrives(Duration during);  // no byte, no end
  void finish();                          // FIN
  void close() { socket_.reset(); }
  void reset();  // RST
  bool is_open() const { return socket_.valid(); }

 private:
  Descriptor socket_;
};

// A listening socket of the test's own, as an instance.
class Listening {
 public:
  explicit Listening(const SocketAddress& address = SocketAddress::loopback(0), int backlog = 4096);
  const SocketAddress& address() const { return address_; }
  int fd() const { return socket_.get(); }
  Peer accept();                     // waits
  bool has_client(Duration within);  // somebody waits in its queue
  void close() { socket_.reset(); }

 private:
  Descriptor socket_;
  SocketAddress address_;
};

// Echoes, in a thread of its own, until it is destroyed; ends each connection when its client does.
class EchoServer {
 public:
  explicit EchoServer(const SocketAddress& address = SocketAddress::loopback(0));
  ~EchoServer();
  const SocketAddress& address() const { return listening_.address(); }
  unsigned served() const { return served_; }

 private:
  void run();
  Listening listening_;
  Descriptor stop_read_;
  Descriptor stop_write_;
  std::atomic<unsigned> served_{0};
  std::thread thread_;
};

// A main loop, one service with one listener, and its data plane.
class Plane {
 public:
  struct Options {
    unsigned threads = 1;
    config::Service service;
    std::uint64_t max_descriptors = 2000;
    SocketAddress listen = SocketAddress::loopback(0);
  };
  static constexpr ServiceId kService = 3;

  explicit Plane(Options options);
  // As an upgrade of relayd does: the data plane halts, leaves its record, and another one, of so many
  // threads, goes on from it. `meanwhile` runs while none of them works.
  void replace(
      unsigned threads, const std::function<void()>& meanwhile = [] {});
  // Ends by asserting that the loop closed clean.
  ~Plane();

  Loop loop;
  std::unique_ptr<DataPlane> data;
  Listener listener;
  std::vector<std::uint64_t> drained;  // tokens
  std::optional<ProxyVersion>
      send_proxy;  // to the endpoints of the routes given here; as the service's at first

  Peer client(int receive_buffer = 0) { return Peer::connect(listener.address, receive_buffer); }
  std::shared_ptr<EndpointLoad> route(const SocketAddress& address, std::uint32_t generation = 1);
  void route(std::vector<Endpoint> endpoints, config::Balance balance = config::Balance::kLeastConnections);
  void hold() { route(std::vector<Endpoint>{}); }
  ServiceCounts counts() const { return data->counts(kService); }
  std::vector<ConnectionInfo> list();
  ConnectionList list_of(std::optional<std::uint32_t> generation, std::size_t limit = 10'000);
  // Runs the main loop until it is true; false after kPatience.
  bool wait(const std::function<bool()>& condition);

 private:
  void make(unsigned threads, const PlaneRecord* taken_over);

  const Options options_;
  std::shared_ptr<const Route> route_ = std::make_shared<const Route>();  // as last given
};

std::size_t open_descriptors();
Listener make_listener(const SocketAddress& address, std::string name = "test");
Endpoint make_endpoint(const SocketAddress& address, std::uint32_t generation = 1,
                       std::uint16_t instance = 0);
// An address of the loopback on which nobody listens.
SocketAddress dead_address();
// A path for a Unix socket, in a folder of its own that goes with the object.
class SocketPath {
 public:
  SocketPath();
  ~SocketPath();
  SocketAddress address(const std::string& name) const;

 private:
  std::string folder_;
};
// `size` bytes that no shift or repetition leaves equal.
std::string pattern(std::size_t size, unsigned seed);

}  // namespace relayd::net::test
