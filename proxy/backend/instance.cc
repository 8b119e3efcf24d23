#include "proxy/backend/instance.h"

#include <unistd.h>

#include <cstring>
#include <optional>
#include <utility>

#include "proxy/backend/child.h"
#include "proxy/backend/health.h"
#include "proxy/backend/keeper.h"
#include "proxy/backend/launch.h"
#include "proxy/backend/notify.h"
#include "proxy/backend/output_tail.h"
#include "proxy/backend/port.h"
#include "proxy/backend/probe_maker.h"
#include "proxy/backend/socket_folder.h"

namespace relayd::backend {

std::string ExitReport::describe() const {
  if (pid == 0) return "no longer used";
  if (!signaled) return "exit status " + std::to_string(status);
  const char* name = ::sigabbrev_np(status);
  return name != nullptr ? std::string("killed by SIG") + name : "killed by signal " + std::to_string(status);
}

namespace {

// relayd has at most so many connects to an instance under way; net.core.somaxconn cuts it.
constexpr int kActivationBacklog = 65535;

}  // namespace

struct Instance::Impl {
  Impl(Context& c, std::shared_ptr<const Definition> d, std::uint32_t g, std::uint16_t i, InstanceEvents e,
       std::shared_ptr<const Descriptor> l)
      : context(c),
        definition(std::move(d)),
        generation(g),
        index(i),
        events(std::move(e)),
        listening(std::move(l)) {}

  Result<void> start();
  Result<void> resume(const ProcessState& state);
  Result<void> take_address(const std::optional<Identity>& user);
  Result<void> take_listening_socket();
  std::vector<PassedSocket> sockets() const;
  Result<void> launch();
  Placement placement() const;
  Result<Program> frame(const Placement& place) const;
  Result<void> begin_checks(const Program& frame, const Placement& placement, HealthState state = {});
  void on_notify(const NotifyMessage& message);
  void on_ready();
  void on_exit(const ExitReport& report);

  std::string name() const {
    return definition->service.name + " generation " + std::to_string(generation) + " instance " +
           std::to_string(index);
  }

  // Constant after construction.
  Context& context;
  const std::shared_ptr<const Definition> definition;
  const std::uint32_t generation;
  const std::uint16_t index;
  const InstanceEvents events;

  SocketAddress address;
  std::optional<Identity> identity;  // whom it runs as; none: relayd's own user
  std::string status_text;
  std::string last_stderr;       // after the exit
  std::string last_check_error;  // after the checks have ended
  pid_t pid = 0;                 // stays after the exit
  // In the order of their making; they go in the opposite one: the process before what it uses.
  PortLease port;
  SocketFolder folder;
  std::shared_ptr<const Descriptor> listening;  // activation
  std::unique_ptr<NotifySocket> notify;
  std::unique_ptr<OutputTail> stderr_tail;
  std::unique_ptr<Child> child;
  std::unique_ptr<HealthMonitor> health;
};

Result<void> Instance::Impl::start() {
  const config::Backend& backend = definition->service.backend;
  auto found = find_identity(backend.user, backend.group);
  if (!found) return std::unexpected(found.error());
  identity = std::move(*found);
  if (auto done = take_address(identity); !done) return done;
  auto socket =
      NotifySocket::create(context.loop, [this](const NotifyMessage& message) { on_notify(message); });
  if (!socket) return std::unexpected(socket.error());
  notify = std::move(*socket);
  return launch();
}

Result<void> Instance::Impl::take_address(const std::optional<Identity>& user) {
  switch (definition->service.backend.address) {
    case config::AddressKind::kPort: {
      auto lease = PortLease::take();
      if (!lease) return std::unexpected(lease.error());
      port = std::move(*lease);
      address = SocketAddress::loopback(port.port());
      return {};
    }
    case config::AddressKind::kSocket: {
      auto made =
          SocketFolder::create(context.runtime_directory, definition->service.name, generation, index, user);
      if (!made) return std::unexpected(made.error());
      auto path = made->address();
      if (!path) return std::unexpected(path.error());
      folder = std::move(*made);
      address = *path;
      return {};
    }
    case config::AddressKind::kActivation:
      return take_listening_socket();
    case config::AddressKind::kHandoff:
      if (definition->sockets.empty()) return fail("there is no public socket to hand over");
      address = definition->sockets.front().address;
      return {};
  }
  return fail("unknown backend.address");
}

// Bound and listening before the app exists, so that nobody can take its port, and connects wait in its
// queue. It blocks, as systemd's sockets do; an app that wants it otherwise sets O_NONBLOCK itself.
Result<void> Instance::Impl::take_listening_socket() {
  if (!listening) {
    auto made = listen_on(SocketAddress::loopback(0), kActivationBacklog);
    if (!made) return std::unexpected(made.error());
    if (auto done = set_nonblocking(made->get(), false); !done) return done;
    listening = std::make_shared<const Descriptor>(std::move(*made));
  }
  auto bound = local_address(listening->get());
  if (!bound) return std::unexpected(bound.error());
  address = *bound;
  return {};
}

std::vector<PassedSocket> Instance::Impl::sockets() const {
  if (listening) return {{listening->get(), definition->service.name}};
  std::vector<PassedSocket> passed;
  for (const PublicSocket& socket : definition->sockets)
    passed.push_back({socket.socket->get(), socket.name});
  return passed;
}

Result<void> Instance::Impl::launch() {
  const Placement place = placement();
  auto program = frame(place);
  if (!program) return std::unexpected(program.error());
  auto command = expand_command(definition->service.backend.command, "backend.command", place);
  if (!command) return std::unexpected(command.error());
  program->command = std::move(*command);

  auto pipe = make_pipe();
  if (!pipe) return std::unexpected(pipe.error());
  auto tail = OutputTail::create(context.loop, std::move(pipe->read), STDERR_FILENO);
  if (!tail) return std::unexpected(tail.error());
  auto started =
      Child::start(context.loop, context.keeper, *program, Streams{-1, pipe->write.get(), sockets()},
                   [this](const ExitReport& report) { on_exit(report); });
  if (!started) return std::unexpected(started.error());
  stderr_tail = std::move(*tail);
  child = std::move(*started);
  pid = child->pid();
  notify->accept_from(pid);
  return begin_checks(*program, place);
}

Placement Instance::Impl::placement() const {
  const bool own_address = definition->service.backend.address != config::AddressKind::kHandoff;
  return {generation, index, address, notify->address(), own_address};
}

Result<Program> Instance::Impl::frame(const Placement& place) const {
  const rlimit original{context.original_nofile_soft, context.original_nofile_hard};
  return program_frame(*definition, place, identity, original, inherited_environment(::environ));
}

Result<void> Instance::Impl::resume(const ProcessState& state) {
  address = state.address;
  status_text = state.status_text;
  last_check_error = state.last_check_error;
  pid = state.pid;
  if (state.port != 0) port = PortLease::adopt(state.port);
  if (!state.folder.empty()) folder = SocketFolder::adopt(state.folder, Descriptor(state.folder_lock));
  auto socket = NotifySocket::adopt(context.loop, Descriptor(state.notify), state.notify_address,
                                    [this](const NotifyMessage& message) { on_notify(message); });
  if (!socket) return std::unexpected(socket.error());
  notify = std::move(*socket);
  notify->accept_from(pid);
  auto tail = OutputTail::create(context.loop, Descriptor(state.stderr_pipe), STDERR_FILENO);
  if (!tail) return std::unexpected(tail.error());
  stderr_tail = std::move(*tail);
  stderr_tail->restore(state.stderr_tail, state.stderr_pending);
  auto adopted = Child::adopt(context.loop, context.keeper, pid, Descriptor(state.pidfd),
                              [this](const ExitReport& report) { on_exit(report); });
  child = std::move(adopted);
  if (!state.health) return {};
  // Nothing is looked up anew: a user may have gone since.
  if (state.user) {
    const auto& user = *state.user;
    identity = Identity{user.uid, user.gid, {user.groups.begin(), user.groups.end()}, user.name, user.home};
  }
  const Placement place = placement();
  auto program = frame(place);
  if (!program) return std::unexpected(program.error());
  return begin_checks(*program, place, *state.health);
}

Result<void> Instance::Impl::begin_checks(const Program& frame, const Placement& placement,
                                          HealthState state) {
  const HealthPlan plan = plan_health(definition->service);
  const int socket = listening ? listening->get() : -1;
  auto make = probe_maker(context, *definition, plan, placement, frame, socket);
  if (!make) return std::unexpected(make.error());
  HealthMonitor::Events told;
  told.ready = [this] { on_ready(); };
  told.unhealthy = events.unhealthy;
  told.healthy = events.healthy;
  health = std::make_unique<HealthMonitor>(context.loop, plan, std::move(*make), std::move(told),
                                           std::move(state));
  return {};
}

void Instance::Impl::on_notify(const NotifyMessage& message) {
  if (message.status) status_text = *message.status;
  if (message.ready && health != nullptr) health->notified();
}

// The check may have been answered in the process's last moment, with its end not yet seen by the loop: such
// an instance was never ready. `exited` follows.
void Instance::Impl::on_ready() {
  if (!child || !child->alive() || !events.ready) return;
  const auto callback = events.ready;
  callback();
}

void Instance::Impl::on_exit(const ExitReport& report) {
  stderr_tail->drain();
  last_stderr = stderr_tail->text();
  if (health) last_check_error = health->last_error();
  health.reset();
  child.reset();
  stderr_tail.reset();
  notify.reset();
  folder.reset();
  port.reset();
  const auto callback = events.exited;
  if (callback) callback(report);
}

Instance::Instance(Context& context, std::shared_ptr<const Definition> definition, std::uint32_t generation,
                   std::uint16_t index, InstanceEvents events, std::shared_ptr<const Descriptor> listening)
    : impl_(std::make_unique<Impl>(context, std::move(definition), generation, index, std::move(events),
                                   std::move(listening))) {}

Instance::~Instance() = default;

Result<void> Instance::start() {
  auto started = impl_->start();
  if (!started) {
    impl_->health.reset();
    impl_->child.reset();
    return fail("cannot start " + impl_->name() + ": " + started.error().message, started.error().code);
  }
  return {};
}

InstanceRecord Instance::save() const {
  ProcessState state;
  state.pid = impl_->pid;
  state.pidfd = impl_->child->pidfd();
  state.address = impl_->address;
  state.port = impl_->port.port();
  state.folder = impl_->folder.path();
  state.folder_lock = impl_->folder.lock();
  state.notify = impl_->notify->fd();
  state.notify_address = impl_->notify->address();
  state.stderr_pipe = impl_->stderr_tail->pipe();
  state.stderr_tail = impl_->stderr_tail->kept();
  state.stderr_pending = impl_->stderr_tail->pending();
  state.status_text = impl_->status_text;
  state.last_check_error = impl_->last_check_error;
  if (impl_->health) state.health = impl_->health->state();
  if (const auto& who = impl_->identity)
    state.user = {who->uid, who->gid, {who->groups.begin(), who->groups.end()}, who->name, who->home};
  return {.process = std::move(state), .target = std::nullopt};
}

Result<void> Instance::resume(const InstanceRecord& record) {
  if (!record.process) return fail("the record of " + impl_->name() + " is not that of a process");
  auto resumed = impl_->resume(*record.process);
  if (!resumed)
    return fail("cannot go on with " + impl_->name() + ": " + resumed.error().message, resumed.error().code);
  return {};
}

void Instance::stop() {
  if (impl_->health) impl_->last_check_error = impl_->health->last_error();
  impl_->health.reset();
  if (impl_->child) impl_->child->signal(impl_->definition->service.backend.stop_signal);
}

void Instance::kill() {
  if (impl_->child) impl_->child->kill_group();
}

bool Instance::alive() const { return impl_->child != nullptr && impl_->child->alive(); }
pid_t Instance::pid() const { return impl_->pid; }
const SocketAddress& Instance::address() const { return impl_->address; }
std::shared_ptr<const Descriptor> Instance::listening() const { return impl_->listening; }

std::string Instance::last_stderr() const {
  return impl_->stderr_tail ? impl_->stderr_tail->text() : impl_->last_stderr;
}

std::string Instance::last_check_error() const {
  return impl_->health ? impl_->health->last_error() : impl_->last_check_error;
}

std::string Instance::status_text() const { return impl_->status_text; }

}  // namespace relayd::backend
