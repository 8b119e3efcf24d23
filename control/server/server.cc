#include "control/server/server.h"

#include <poll.h>
#include <sys/socket.h>

#include <cerrno>
#include <map>

#include "control/server/client.h"
#include "control/server/dispatch.h"
#include "control/server/peer.h"
#include "control/server/socket_file.h"
#include "proxy/base/log.h"

namespace relayd::control {
namespace {

constexpr Duration kAcceptPause{200};  // after an accept(2) that failed for want of descriptors
constexpr int kAcceptsPerTurn = 16;

class SocketServer final : public Server {
 public:
  SocketServer(Loop& loop, const ServerOptions& options, SocketFile file, std::optional<gid_t> group,
               Commands& commands)
      : loop_(loop),
        limits_(options.limits),
        file_(std::move(file)),
        group_(group),
        commands_(commands),
        burial_(loop),
        accept_again_(loop) {}
  ~SocketServer() override;

  Result<void> listen() {
    auto poll = Poll::create(loop_, file_.fd(), UV_READABLE, [this](int) { accept_some(); });
    if (!poll) return std::unexpected(poll.error());
    poll_ = std::move(*poll);
    return {};
  }
  void publish(const Event& event) override;

 private:
  void accept_some();
  void admit(Descriptor fd);
  static void turn_away(const Descriptor& fd, const Failure& failure);
  void on_line(Client& client, std::string_view line);
  void subscribe(Client& client, std::uint64_t token, const Request& request);
  void bury() {
    std::erase_if(clients_, [](const auto& entry) { return entry.second->dead(); });
  }

  // Constant after construction.
  Loop& loop_;
  const Limits limits_;
  SocketFile file_;
  const std::optional<gid_t> group_;
  Commands& commands_;

  std::unique_ptr<Poll> poll_;
  std::map<std::uint64_t, std::unique_ptr<Client>> clients_;
  std::uint64_t next_client_ = 1;
  Timer burial_;  // dead clients go in a turn of their own: who killed them may still be on the stack
  Timer accept_again_;
  // Expires with the server, so that answers which come later are dropped.
  std::shared_ptr<SocketServer*> alive_ = std::make_shared<SocketServer*>(this);
};

void SocketServer::accept_some() {
  for (int accepted = 0; accepted < kAcceptsPerTurn; ++accepted) {
    Descriptor fd(::accept4(file_.fd(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (fd) {
      admit(std::move(fd));
      continue;
    }
    if (errno == EINTR || errno == ECONNABORTED) continue;
    if (errno != EAGAIN) {
      log::error("control: cannot accept a client; trying again",
                 {{"socket", file_.path()}, {"error", errno_text(errno)}});
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
  auto client = Client::create(loop_, std::move(fd), *peer, id, limits_,
                               {[this](Client& from, std::string_view line) { on_line(from, line); },
                                [this](Client&) { burial_.start(Duration::zero(), [this] { bury(); }); }});
  if (!client) return log::warn("control: client refused", {{"error", client.error().message}});
  clients_.emplace(id, std::move(*client));
}

void SocketServer::on_line(Client& client, std::string_view line) {
  auto request = parse_request(line);
  if (!request) {
    if (!request.error().id.empty()) client.send(write_failure(request.error().id, request.error().failure));
    return;
  }
  if (client.outstanding() >= limits_.outstanding) {
    return client.send(write_failure(
        request->id, {ErrorCode::kFailed, std::to_string(limits_.outstanding) +
                                              " requests are outstanding, which is the limit"}));
  }
  const std::uint64_t token = client.begin(request->id);
  if (std::holds_alternative<SubscribeCall>(request->call)) return subscribe(client, token, *request);
  dispatch(*request, commands_,
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

SocketServer::~SocketServer() {
  alive_.reset();
  poll_.reset();
  for (const auto& [id, client] : clients_) {
    const auto requests = client->requests();  // a copy: answering takes them out
    for (const auto& [token, request] : requests) {
      client->answer(token,
                     write_failure(request, {ErrorCode::kFailed, "relayd ended before this was done"}));
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

}  // namespace

Result<std::unique_ptr<Server>> Server::start(Loop& loop, const ServerOptions& options, Commands& commands) {
  std::optional<gid_t> group;
  if (!options.group.empty()) {
    auto found = group_by_name(options.group);
    if (!found) return std::unexpected(found.error());
    group = *found;
  }
  auto file = SocketFile::create(options, group);
  if (!file) return std::unexpected(file.error());
  auto server = std::make_unique<SocketServer>(loop, options, std::move(*file), group, commands);
  if (auto listening = server->listen(); !listening) return std::unexpected(listening.error());
  return server;
}

}  // namespace relayd::control
