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
#include "proxy/backend/port.h"
#include "proxy/backend/probe_maker.h"
#include "proxy/backend/socket_folder.h"
#include "proxy/backend/stderr_tail.h"

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
  Result<void> take_address(const std::optional<Identity>& identity);
  Result<void> take_listening_socket();
  std::vector<PassedSocket> sockets() const;
  Result<void> launch(const std::optional<Identity>& identity);
  Result<void> begin_checks(const Program& frame, const Placement& placement);
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
  std::string status_text;
  std::string last_stderr;       // after the exit
  std::string last_check_error;  // after the checks have ended
  pid_t pid = 0;                 // stays after the exit
  // In the order of their making; they go in the opposite one: the process before what it uses.
  PortLease port;
  SocketFolder folder;
  std::shared_ptr<const Descriptor> listening;  // activation
  std::unique_ptr<NotifySocket> notify;
  std::unique_ptr<StderrTail> stderr_tail;
  std::unique_ptr<Child> child;
  std::unique_ptr<HealthMonitor> health;
};

Result<void> Instance::Impl::start() {
  const config::Backend& backend = definition->service.backend;
  const auto identity = find_identity(backend.user, backend.group);
  if (!identity) return std::unexpected(identity.error());
  if (auto done = take_address(*identity); !done) return done;
  auto socket =
      NotifySocket::create(context.loop, [this](const NotifyMessage& message) { on_notify(message); });
  if (!socket) return std::unexpected(socket.error());
  notify = std::move(*socket);
  return launch(*identity);
}

Result<void> Instance::Impl::take_address(const std::optional<Identity>& identity) {
  switch (definition->service.backend.address) {
    case config::AddressKind::kPort: {
      auto lease = PortLease::take();
      if (!lease) return std::unexpected(lease.error());
      port = std::move(*lease);
      address = SocketAddress::loopback(port.port());
      return {};
    }
    case config::AddressKind::kSocket: {
      auto made = SocketFolder::create(context.runtime_directory, definition->service.name, generation, index,
                                       identity);
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

Result<void> Instance::Impl::launch(const std::optional<Identity>& identity) {
  const bool own_address = definition->service.backend.address != config::AddressKind::kHandoff;
  const Placement placement{generation, index, address, notify->address(), own_address};
  const rlimit original{context.original_nofile_soft, context.original_nofile_hard};
  auto program = program_frame(*definition, placement, identity, original, inherited_environment(::environ));
  if (!program) return std::unexpected(program.error());
  auto command = expand_command(definition->service.backend.command, "backend.command", placement);
  if (!command) return std::unexpected(command.error());
  program->command = std::move(*command);

  auto pipe = make_pipe();
  if (!pipe) return std::unexpected(pipe.error());
  auto tail = StderrTail::create(context.loop, std::move(pipe->read), STDERR_FILENO);
  if (!tail) return std::unexpected(tail.error());
  auto started =
      Child::start(context.loop, context.keeper, *program, Streams{-1, pipe->write.get(), sockets()},
                   [this](const ExitReport& report) { on_exit(report); });
  if (!started) return std::unexpected(started.error());
  stderr_tail = std::move(*tail);
  child = std::move(*started);
  pid = child->pid();
  notify->accept_from(pid);
  return begin_checks(*program, placement);
}

Result<void> Instance::Impl::begin_checks(const Program& frame, const Placement& placement) {
  const HealthPlan plan = plan_health(definition->service);
  const int socket = listening ? listening->get() : -1;
  auto make = probe_maker(context, *definition, plan, placement, frame, socket);
  if (!make) return std::unexpected(make.error());
  HealthMonitor::Events told;
  told.ready = [this] { on_ready(); };
  told.unhealthy = events.unhealthy;
  told.healthy = events.healthy;
  health = std::make_unique<HealthMonitor>(context.loop, plan, std::move(*make), std::move(told));
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
