#include "control/server/server.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <set>
#include <utility>

#include "control/server/client.h"
#include "control/server/control_socket.h"
#include "control/server/dispatch.h"
#include "control/server/peer.h"
#include "proxy/base/log.h"

namespace relayd::control {
namespace {

constexpr Duration kAcceptPause{200};  // after an accept(2) that failed for want of descriptors
constexpr int kAcceptsPerTurn = 16;

class SocketServer final : public Server {
 public:
  SocketServer(Loop& loop, const ServerOptions& options, ControlSocket socket, std::optional<gid_t> group,
               Commands& commands)
      : loop_(loop),
        limits_(options.limits),
        options_(options),
        socket_(std::move(socket)),
        group_(group),
        commands_(commands),
        burial_(loop),
        accept_again_(loop) {}
  ~SocketServer() override;

  Result<void> listen() { return listen_at(socket_); }
  // The one that was adopted, without listening yet. On an error it is not taken.
  Result<void> adopt_listener(std::uint64_t next_client);
  void adopt(ClientRecord record, std::set<int>& taken);
  void resume() override;
  Result<bool> bind_again() override;
  ServerRecord save() const override;
  void publish(const Event& event) override;

 private:
  Result<void> listen_at(const ControlSocket& socket) {
    auto poll = Poll::create(loop_, socket.fd(), UV_READABLE, [this](int) { accept_some(); });
    if (!poll) return std::unexpected(poll.error());
    poll_ = std::move(*poll);
    return {};
  }
  void accept_some();
  void admit(Descriptor fd);
  static void turn_away(const Descriptor& fd, const Failure& failure);
  Client::Callbacks callbacks();
  void on_line(Client& client, std::string_view line);
  void carry_out(Client& client, std::uint64_t token, const Request& request, bool again);
  void subscribe(Client& client, std::uint64_t token, const Request& request);
  void bury() {
    std::erase_if(clients_, [](const auto& entry) { return entry.second->dead(); });
  }

  // Constant after construction.
  Loop& loop_;
  const Limits limits_;
  const ServerOptions options_;
  ControlSocket socket_;
  const std::optional<gid_t> group_;
  Commands& commands_;

  std::unique_ptr<Poll> poll_;
  std::map<std::uint64_t, std::unique_ptr<Client>> clients_;
  std::uint64_t next_client_ = 1;
  bool asleep_ = false;  // restored, and not resumed yet
  Timer burial_;         // dead clients go in a turn of their own: who killed them may still be on the stack
  Timer accept_again_;
  // Expires with the server, so that answers which come later are dropped.
  std::shared_ptr<SocketServer*> alive_ = std::make_shared<SocketServer*>(this);
};

void SocketServer::accept_some() {
  for (int accepted = 0; accepted < kAcceptsPerTurn; ++accepted) {
    Descriptor fd(::accept4(socket_.fd(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (fd) {
      admit(std::move(fd));
      continue;
    }
    if (errno == EINTR || errno == ECONNABORTED) continue;
    if (errno != EAGAIN) {
      log::error("control: cannot accept a client; trying again",
                 {{"socket", socket_.file().identity().path}, {"error", errno_text(errno)}});
      poll_->stop();
      accept_again_.start(kAcceptPause, [this] { poll_->set_events(UV_READABLE); });
    }
    return;
  }
}

// One attempt: the socket's buffer is empty, and whoever does not read it has only himself to blame.
void SocketServer::turn_away(const Descriptor& fd, const Failure& failure) {
  const std::string line = write_failure("null", failure);
  [[maybe_unused]] const ssize_t sent =
      ::send(fd.get(), line.data(), line.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
}

void SocketServer::admit(Descriptor fd) {
  const auto peer = peer_of(fd.get());
  if (!peer) return log::warn("control: client refused", {{"error", peer.error().message}});
  if (!permitted(fd.get(), *peer, group_)) {
    log::warn("control: client refused: not permitted", {{"client_pid", peer->pid}, {"uid", peer->uid}});
    return turn_away(
        fd, {ErrorCode::kNotPermitted,
             "user " + std::to_string(peer->uid) +
                 " may not control this relayd; root, its own user and the members of control.group may"});
  }
  bury();
  if (clients_.size() >= limits_.clients) {
    log::warn("control: client refused: too many", {{"client_pid", peer->pid}, {"clients", clients_.size()}});
    return turn_away(
        fd, {ErrorCode::kFailed, std::to_string(limits_.clients) +
                                     " clients are connected, which is the limit; close one of them"});
  }
  const std::uint64_t id = next_client_++;
  auto client = Client::create(loop_, std::move(fd), *peer, id, limits_, callbacks());
  if (!client) return log::warn("control: client refused", {{"error", client.error().message}});
  clients_.emplace(id, std::move(*client));
}

Client::Callbacks SocketServer::callbacks() {
  return {[this](Client& from, std::string_view line) { on_line(from, line); },
          [this](Client&) { burial_.start(Duration::zero(), [this] { bury(); }); }};
}

void SocketServer::on_line(Client& client, std::string_view line) {
  auto request = parse_request(line);
  if (!request) {
    if (!request.error().id.empty()) client.send(write_failure(request.error().id, request.error().failure));
    return;
  }
  if (client.requests().size() >= limits_.outstanding) {
    return client.send(write_failure(
        request->id, {ErrorCode::kFailed, std::to_string(limits_.outstanding) +
                                              " requests are outstanding, which is the limit"}));
  }
  if (client.outstanding_bytes() + line.size() > limits_.outstanding_bytes) {
    return client.send(write_failure(
        request->id, {ErrorCode::kFailed, "requests of " + std::to_string(client.outstanding_bytes()) +
                                              " bytes are outstanding; the limit is " +
                                              std::to_string(limits_.outstanding_bytes)}));
  }
  // Whoever names a program has it run by relayd's own user.
  const auto* upgrade = std::get_if<UpgradeCall>(&request->call);
  const bool own = client.peer().uid == 0 || client.peer().uid == ::geteuid();
  if (upgrade != nullptr && !upgrade->binary.empty() && !own) {
    return client.send(write_failure(
        request->id,
        {ErrorCode::kNotPermitted,
         "only root and relayd's own user may name the executable; without --binary it is the one "
         "that is now at relayd's path"}));
  }
  carry_out(client, client.begin(request->id, std::string(line)), *request, false);
}

void SocketServer::carry_out(Client& client, std::uint64_t token, const Request& request, bool again) {
  if (std::holds_alternative<SubscribeCall>(request.call)) return subscribe(client, token, request);
  // Client numbers go on over upgrades; 2^32 requests of one client lie between two of the same ticket.
  const Asked asked{client.id() << 32 | (token & 0xffffffff), again};
  dispatch(request, asked, commands_,
           [alive = std::weak_ptr(alive_), id = client.id(), token](const std::string& answer) {
             const auto server = alive.lock();
             if (!server) return;
             const auto found = (*server)->clients_.find(id);
             if (found != (*server)->clients_.end()) found->second->answer(token, answer);
           });
}

void SocketServer::subscribe(Client& client, std::uint64_t token, const Request& request) {
  const auto& call = std::get<SubscribeCall>(request.call);
  if (const auto known = check_service(call.service, commands_); !known) {
    return client.answer(token, write_failure(request.id, known.error()));
  }
  std::vector<Event> events;
  if (call.since || call.recent)
    events = select_events(commands_.recent_events(), call.service, call.since, call.recent);
  // All of it as one piece: the bound on unsent output is for those who do not read, not for those who begin
  // to.
  std::string lines = write_reply(request.id, Subscribed{call.service, events.size()});
  for (const Event& event : events) lines += write_event(event);
  client.answer(token, lines);
  if (!client.dead()) client.following = call.service;
}

void SocketServer::publish(const Event& event) {
  std::string line;
  for (const auto& [id, client] : clients_) {
    if (!client->following || !concerns(event, *client->following)) continue;
    if (line.empty()) line = write_event(event);
    client->send(line);
  }
}

Result<bool> SocketServer::bind_again() {
  if (socket_.file().is_there()) return false;
  ServerOptions options = options_;
  options.socket_path = socket_.file().identity().path;
  auto socket = ControlSocket::create(options, group_);
  if (!socket) return std::unexpected(socket.error());
  if (auto listening = listen_at(*socket); !listening) return std::unexpected(listening.error());
  socket_ = std::move(*socket);
  return true;
}

Result<void> SocketServer::adopt_listener(std::uint64_t next_client) {
  asleep_ = true;
  next_client_ = std::max(next_client_, next_client);
  auto listening = listen();
  if (listening) {
    poll_->stop();
  } else {
    socket_.disown();
  }
  return listening;
}

// It was permitted when it came. What is no client's connection at all is not ours to close.
void SocketServer::adopt(ClientRecord record, std::set<int>& taken) {
  const auto drop = [&](const std::string& why) {
    log::warn("control: client lost by the upgrade",
              {{"client", record.id}, {"descriptor", record.fd}, {"error", why}});
  };
  if (!is_connection(record.fd) || !taken.insert(record.fd).second) {
    return drop("its descriptor is no connection of the control socket, or another client's");
  }
  Descriptor fd(record.fd);
  const auto peer = peer_of(fd.get());
  if (!peer) return drop(peer.error().message);
  const std::uint64_t id = record.id;
  if (clients_.contains(id)) return drop("another client has its number");
  auto client = Client::restore(loop_, std::move(fd), *peer, std::move(record), limits_, callbacks());
  if (!client) return drop(client.error().message);
  next_client_ = std::max(next_client_, id + 1);
  clients_.emplace(id, std::move(*client));
}

void SocketServer::resume() {
  if (!std::exchange(asleep_, false)) return;
  struct Pending {
    std::uint64_t client;
    std::uint64_t token;
    std::string line;
  };
  std::vector<Pending> pending;
  for (const auto& [id, client] : clients_) {
    for (const auto& [token, request] : client->requests()) pending.push_back({id, token, request.line});
  }
  for (const auto& [id, client] : clients_) client->wake();
  for (const Pending& next : pending) {
    Client& client = *clients_.at(next.client);
    const auto request = parse_request(next.line);
    if (client.dead()) continue;
    if (request) {
      carry_out(client, next.token, *request, true);
    } else {  // another version's, which knew more
      client.answer(next.token, write_failure(request.error().id, request.error().failure));
    }
  }
  for (const auto& [id, client] : clients_) client->read_on();
  poll_->set_events(UV_READABLE);
}

ServerRecord SocketServer::save() const {
  ServerRecord record;
  socket_.save(record);
  record.group = group_;
  record.next_client = next_client_;
  for (const auto& [id, client] : clients_) {
    if (!client->dead()) record.clients.push_back(client->save());
  }
  return record;
}

SocketServer::~SocketServer() {
  alive_.reset();
  poll_.reset();
  for (const auto& [id, client] : clients_) {
    if (asleep_) client->wake();
    const auto requests = client->requests();  // a copy: answering takes them out
    for (const auto& [token, request] : requests) {
      client->answer(token,
                     write_failure(request.id, {ErrorCode::kFailed, "relayd ended before this was done"}));
    }
  }
  const TimePoint end = monotonic_now() + limits_.last_flush;
  while (monotonic_now() < end) {
    std::vector<pollfd> waiting;
    for (const auto& [id, client] : clients_) {
      client->flush();
      if (client->unsent()) waiting.push_back({client->fd(), POLLOUT, 0});
    }
    if (waiting.empty()) break;
    ::poll(waiting.data(), waiting.size(), static_cast<int>((end - monotonic_now()).count()));
  }
}

Result<std::optional<gid_t>> group_of(const ServerOptions& options) {
  if (options.group.empty()) return std::nullopt;
  return group_by_name(options.group);
}

}  // namespace

Result<std::unique_ptr<Server>> Server::start(Loop& loop, const ServerOptions& options, Commands& commands) {
  const auto group = group_of(options);
  if (!group) return std::unexpected(group.error());
  auto socket = ControlSocket::create(options, *group);
  if (!socket) return std::unexpected(socket.error());
  auto server = std::make_unique<SocketServer>(loop, options, std::move(*socket), *group, commands);
  if (auto listening = server->listen(); !listening) return std::unexpected(listening.error());
  return server;
}

Result<std::unique_ptr<Server>> Server::restore(Loop& loop, const ServerOptions& options, ServerRecord record,
                                                Commands& commands) {
  // Not looked up anew: the group may have gone since, or nobody may tell at this moment.
  std::optional<gid_t> group = record.group;
  if (!group && !options.group.empty()) {
    const auto found = group_of(options);
    if (!found) log::warn("control: only root and relayd's own user may connect: " + found.error().message);
    if (found) group = *found;
  }
  auto socket = ControlSocket::adopt(record);
  if (!socket) return std::unexpected(socket.error());
  auto server = std::make_unique<SocketServer>(loop, options, std::move(*socket), group, commands);
  if (auto adopted = server->adopt_listener(record.next_client); !adopted)
    return std::unexpected(adopted.error());
  std::set<int> taken;
  for (ClientRecord& client : record.clients) server->adopt(std::move(client), taken);
  return server;
}

}  // namespace relayd::control
