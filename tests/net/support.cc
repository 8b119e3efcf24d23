#include "tests/net/support.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <random>
#include <stdexcept>
#include <system_error>

namespace relayd::net::test {
namespace {

bool ready(int fd, short events, Duration within) {
  pollfd entry{.fd = fd, .events = events, .revents = 0};
  return ::poll(&entry, 1, static_cast<int>(within.count())) > 0;
}

}  // namespace

Peer::Peer(Descriptor socket) : socket_(std::move(socket)) {
  EXPECT_TRUE(set_nonblocking(socket_.get(), false));
  const timeval patience{.tv_sec = kPatience.count() / 1000, .tv_usec = 0};
  ::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
  ::setsockopt(socket_.get(), SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
}

Peer Peer::connect(const SocketAddress& address, int receive_buffer) {
  Descriptor socket(::socket(address.family(), SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) throw std::runtime_error("no socket: " + errno_text(errno));
  if (receive_buffer > 0) {
    ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVBUF, &receive_buffer, sizeof receive_buffer);
  }
  EXPECT_EQ(::connect(socket.get(), address.get(), address.length()), 0) << errno_text(errno);
  return Peer(std::move(socket));
}

bool Peer::try_send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(fd(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) return false;
    bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
  return true;
}

void Peer::send(std::string_view bytes) { EXPECT_TRUE(try_send(bytes)) << errno_text(errno); }

std::string Peer::receive(std::size_t size) {
  std::string bytes(size, '\0');
  std::size_t got = 0;
  while (got < size) {
    const ssize_t n = ::recv(fd(), bytes.data() + got, size - got, 0);
    if (n <= 0) {
      ADD_FAILURE() << "got " << got << " of " << size << " bytes, then "
                    << (n == 0 ? std::string("the end") : errno_text(errno));
      break;
    }
    got += static_cast<std::size_t>(n);
  }
  bytes.resize(got);
  return bytes;
}

Received Peer::receive_all() {
  Received received;
  std::vector<char> buffer(256 * 1024);
  for (;;) {
    const ssize_t n = ::recv(fd(), buffer.data(), buffer.size(), 0);
    if (n < 0) received.error = errno;
    if (n <= 0) return received;
    received.bytes.append(buffer.data(), static_cast<std::size_t>(n));
  }
}

bool Peer::nothing_arrives(Duration during) { return !ready(fd(), POLLIN | POLLRDHUP, during); }

void Peer::finish() { ::shutdown(fd(), SHUT_WR); }

void Peer::reset() {
  const linger now{.l_onoff = 1, .l_linger = 0};
  ::setsockopt(fd(), SOL_SOCKET, SO_LINGER, &now, sizeof now);
  socket_.reset();
}

Listening::Listening(const SocketAddress& address, int backlog) {
  auto socket = listen_on(address, backlog);
  EXPECT_TRUE(socket) << (socket ? "" : socket.error().message);
  socket_ = std::move(*socket);
  address_ = *local_address(socket_.get());
}

Peer Listening::accept() {
  EXPECT_TRUE(ready(socket_.get(), POLLIN, kPatience)) << "nobody connected";
  return Peer(Descriptor(::accept4(socket_.get(), nullptr, nullptr, SOCK_CLOEXEC)));
}

bool Listening::has_client(Duration within) { return ready(socket_.get(), POLLIN, within); }

EchoServer::EchoServer(const SocketAddress& address) : listening_(address) {
  auto pipe = make_pipe();
  stop_read_ = std::move(pipe->read);
  stop_write_ = std::move(pipe->write);
  thread_ = std::thread([this] { run(); });
}

EchoServer::~EchoServer() {
  stop_write_.reset();
  thread_.join();
}

void EchoServer::run() {
  std::vector<Peer> peers;
  std::vector<char> buffer(64 * 1024);
  for (;;) {
    std::vector<pollfd> entries{{.fd = stop_read_.get(), .events = POLLIN, .revents = 0}};
    for (const Peer& peer : peers) entries.push_back({.fd = peer.fd(), .events = POLLIN, .revents = 0});
    if (peers.empty() || peers.size() < 900) {
      if (listening_.has_client(Duration(peers.empty() ? 5 : 0))) {
        peers.push_back(listening_.accept());
        ++served_;
        continue;
      }
    }
    if (::poll(entries.data(), entries.size(), 1) <= 0) continue;
    if (entries[0].revents != 0) return;
    for (std::size_t i = entries.size() - 1; i > 0; --i) {
      if (entries[i].revents == 0) continue;
      const ssize_t n = ::recv(entries[i].fd, buffer.data(), buffer.size(), 0);
      if (n <= 0 || !peers[i - 1].try_send({buffer.data(), static_cast<std::size_t>(n)})) {
        peers.erase(peers.begin() + static_cast<std::ptrdiff_t>(i) - 1);
      }
    }
  }
}

Plane::Plane(Options options) : options_(std::move(options)) {
  const auto send = options_.service.proxy_protocol.send;
  if (send == config::ProxyProtocol::kV1) send_proxy = ProxyVersion::kV1;
  if (send == config::ProxyProtocol::kV2) send_proxy = ProxyVersion::kV2;
  listener = make_listener(options_.listen);
  make(options_.threads, nullptr);
}

void Plane::make(unsigned threads, const PlaneRecord* taken_over) {
  Events events;
  events.drained = [this](ServiceId id, std::uint64_t token) {
    EXPECT_EQ(id, kService);
    drained.push_back(token);
  };
  data = std::make_unique<DataPlane>(
      loop,
      net::Options{.threads = threads, .max_descriptors = options_.max_descriptors, .taken_over = taken_over},
      events);
  data->add_service(kService, options_.service, {&listener});
}

namespace {

// Descriptors that outlive their owner under their own numbers, as over an exec.
class Inherited {
 public:
  void add(int fd) {
    if (fd >= 0) copies_.emplace_back(fd, Descriptor(::fcntl(fd, F_DUPFD_CLOEXEC, 0)));
  }
  void put_back() {
    for (const auto& [fd, copy] : copies_) {
      ASSERT_EQ(::fcntl(fd, F_GETFD), -1) << "somebody else has it";
      ASSERT_EQ(::dup3(copy.get(), fd, O_CLOEXEC), fd);
    }
    copies_.clear();
  }

 private:
  std::vector<std::pair<int, Descriptor>> copies_;
};

}  // namespace

void Plane::replace(unsigned threads, const std::function<void()>& meanwhile) {
  const auto frozen = data->freeze(kPatience);
  ASSERT_TRUE(frozen) << frozen.error().message;
  PlaneRecord record = data->frozen();
  ASSERT_EQ(fault_of(record), "");
  Inherited inherited;
  for (const WorkerRecord& worker : record.workers) {
    inherited.add(worker.epoll);
    for (const ConnectionRecord& connection : worker.connections) {
      for (const unsigned side : {kClient, kBackend}) {
        inherited.add(connection.connection.fd[side]);
        inherited.add(connection.parked[side].read);
        inherited.add(connection.parked[side].write);
      }
    }
  }
  data.reset();
  inherited.put_back();
  meanwhile();
  make(threads, &record);
  data->restore(record, [this](const EndpointRecord& endpoint) {
    for (const Endpoint& named : route_->endpoints) {
      if (named.address == endpoint.address && named.generation == endpoint.generation) return named.load;
    }
    return std::make_shared<EndpointLoad>();
  });
  data->set_route(kService, route_);
  data->start();
  data->go();
}

Plane::~Plane() {
  data.reset();
  EXPECT_TRUE(loop.close());
}

std::shared_ptr<EndpointLoad> Plane::route(const SocketAddress& address, std::uint32_t generation) {
  Endpoint endpoint = make_endpoint(address, generation);
  const auto load = endpoint.load;
  route({std::move(endpoint)});
  return load;
}

void Plane::route(std::vector<Endpoint> endpoints, config::Balance balance) {
  for (Endpoint& endpoint : endpoints) endpoint.send_proxy = send_proxy;
  route_ = std::make_shared<const Route>(Route{balance, std::move(endpoints)});
  data->set_route(kService, route_);
}

std::vector<ConnectionInfo> Plane::list() { return list_of(std::nullopt).connections; }

ConnectionList Plane::list_of(std::optional<std::uint32_t> generation, std::size_t limit) {
  ConnectionList all;
  bool done = false;
  data->list_connections(kService, generation, limit, [&](ConnectionList found) {
    all = std::move(found);
    done = true;
  });
  EXPECT_TRUE(wait([&] { return done; }));
  return all;
}

bool Plane::wait(const std::function<bool()>& condition) {
  const TimePoint until = monotonic_now() + kPatience;
  Timer pace(loop);
  pace.start(
      Duration(2), [] {}, Duration(2));
  while (!condition()) {
    if (monotonic_now() > until) return false;
    loop.run_once();
  }
  return true;
}

std::size_t open_descriptors() {
  // Not by std::filesystem, which takes memory for each of them: tests measure that.
  DIR* folder = ::opendir("/proc/self/fd");
  if (folder == nullptr) throw std::runtime_error("no /proc: " + errno_text(errno));
  std::size_t count = 0;
  while (::readdir(folder) != nullptr) ++count;
  ::closedir(folder);
  return count;
}

Listener make_listener(const SocketAddress& address, std::string name) {
  auto socket = listen_on(address, 4096);
  EXPECT_TRUE(socket) << (socket ? "" : socket.error().message);
  Listener listener{.name = std::move(name), .address = {}, .socket = std::move(*socket)};
  listener.address = *local_address(listener.socket.get());
  return listener;
}

Endpoint make_endpoint(const SocketAddress& address, std::uint32_t generation, std::uint16_t instance) {
  return {.address = address,
          .generation = generation,
          .instance = instance,
          .load = std::make_shared<EndpointLoad>()};
}

SocketAddress dead_address() { return Listening().address(); }

SocketPath::SocketPath() {
  char name[] = "/tmp/relayd-net-XXXXXX";
  EXPECT_NE(::mkdtemp(name), nullptr);
  folder_ = name;
}

SocketPath::~SocketPath() {
  std::error_code failed;  // of a test that has failed before
  std::filesystem::remove_all(folder_, failed);
}

SocketAddress SocketPath::address(const std::string& name) const {
  return *SocketAddress::unix_path(folder_ + "/" + name);
}

std::string pattern(std::size_t size, unsigned seed) {
  std::string bytes(size, '\0');
  std::minstd_rand random(seed + 1);
  for (char& byte : bytes) byte = static_cast<char>(random() >> 7);
  return bytes;
}

}  // namespace relayd::net::test
