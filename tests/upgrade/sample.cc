#include "tests/upgrade/sample.h"

namespace relayd::upgrade::test {
namespace {

using namespace std::chrono_literals;

constexpr TimePoint at(std::int64_t seconds) { return TimePoint(std::chrono::seconds(seconds)); }
constexpr net::ServiceId kWeb = 1;
constexpr net::ServiceId kRaw = 2;

// Each descriptor is another one.
class Numbers {
 public:
  int next() { return ++last_; }

 private:
  int last_ = 9;
};

config::Service web() {
  config::Service service;
  service.name = "web";
  service.listen = {"127.0.0.1:8080"};
  service.backend.command = {"gunicorn", "app:app", "--bind", "{address}"};
  service.backend.instances = 2;
  service.backend.env = {{"APP_ENV", "a \"quoted\" one\n"}};
  return service;
}

config::Service raw() {
  config::Service service;
  service.name = "raw";
  service.listen = {"unix:/run/raw.sock"};
  service.protocol = config::Protocol::kTcp;
  service.backend.targets = {"10.0.0.5:8000"};
  return service;
}

net::ConnectionRecord relaying(Numbers& fd, std::uint64_t id) {
  net::ConnectionRecord record;
  record.connection.id = id;
  record.index = static_cast<net::Index>(id * 100);
  record.connection.fd[net::kClient] = fd.next();
  record.connection.fd[net::kBackend] = fd.next();
  record.connection.bytes_in = 17;
  record.connection.bytes_out = 4711;
  record.connection.service = kWeb;
  record.connection.state = net::State::kRelaying;
  record.connection.side[net::kClient] = net::kWatched | net::kNoDelay;
  record.connection.side[net::kBackend] = net::kWatched | net::kWriteReady;
  record.endpoint = 0;
  return record;
}

net::WorkerRecord worker(Numbers& fd) {
  net::WorkerRecord worker;
  worker.epoll = 9;
  worker.arrivals = 6;
  worker.endpoints.push_back({.service = kWeb,
                              .address = SocketAddress::loopback(61000),
                              .generation = 2,
                              .instance = 1,
                              .send_proxy = ProxyVersion::kV2,
                              .has_failed = true,
                              .failures = 3,
                              .retry_at = 99});
  net::ConnectionRecord plain = relaying(fd, 1);
  plain.parked[net::kBackend].kind = net::ParkedRecord::Kind::kBytes;
  plain.parked[net::kBackend].bytes = "left over";
  plain.parked[net::kBackend].begin = 5;
  plain.origin = net::Origin{SocketAddress::loopback(1), SocketAddress::loopback(2)};
  worker.connections.push_back(plain);
  net::ConnectionRecord spliced = relaying(fd, 2);
  spliced.parked[net::kBackend] = {net::ParkedRecord::Kind::kPipe, "", 0, 65536, fd.next(), fd.next()};
  worker.connections.push_back(spliced);
  net::ConnectionRecord http = relaying(fd, 3);
  http.exchange.emplace();
  http.exchange->exchange.stage = net::Stage::kUnanswered;
  http.exchange->exchange.generation = 2;
  http.exchange->exchange.request_end = 18;
  http.exchange->exchange.flags = net::kClientKeeps | net::kWhole | net::kFirstSent;
  http.exchange->partial = "HTTP/1.1 200";
  http.parked[net::kClient].kind = net::ParkedRecord::Kind::kBytes;
  http.parked[net::kClient].bytes = "GET / HTTP/1.1\r\n\r\n";
  http.parked[net::kClient].begin = 18;
  worker.connections.push_back(http);
  net::ConnectionRecord held = relaying(fd, 4);
  held.connection.fd[net::kBackend] = -1;
  held.endpoint = net::kNone;
  held.connection.state = net::State::kHeld;
  held.connection.flags = net::kWaited;
  worker.connections.push_back(held);
  worker.sweeps.push_back({net::SweepWhat::kMove, kWeb, 1, -1, net::ConnectionKind::kAll});
  worker.spreads.push_back({kWeb, 1, net::ConnectionKind::kTunnels, 500});
  return worker;
}

rollover::Instance ready() {
  rollover::Instance instance;
  instance.state = rollover::InstanceState::kReady;
  instance.since = at(100);
  return instance;
}

rollover::SlotRecord process(Numbers& fd, rollover::GenerationNumber generation,
                             rollover::InstanceIndex index) {
  backend::ProcessState state;
  state.pid = 1000 + static_cast<pid_t>(generation) * 10 + index;
  state.pidfd = fd.next();
  state.address = SocketAddress::loopback(61000);
  state.port = 61000;
  state.notify = fd.next();
  state.notify_address = "@00042";
  state.stderr_pipe = fd.next();
  state.stderr_tail = "it runs\n";
  state.status_text = "well";
  state.health = backend::HealthState{backend::HealthState::Standing::kWell, true, 1, 2, "refused"};
  rollover::SlotRecord slot;
  slot.generation = generation;
  slot.index = index;
  slot.instance = backend::InstanceRecord{std::move(state), std::nullopt};
  slot.loads.push_back({SocketAddress::loopback(61000), 5, 1, 3});
  slot.past_connections = 7;
  slot.last_end = "exit status 1";
  slot.listening = fd.next();
  return slot;
}

rollover::DriverRecord web_driver(Numbers& fd) {
  rollover::DriverRecord driver;
  driver.service = web();
  driver.scaled = 2;
  rollover::State& state = driver.state;
  state.phase = rollover::Phase::kServing;
  state.last_number = 2;
  state.last_served = 2;
  state.policy.surge = {100, true};
  rollover::Generation old;
  old.number = 1;
  old.state = rollover::GenerationState::kDraining;
  old.due = at(130);
  old.drain = 1;
  old.instances = {ready()};
  rollover::Generation serving;
  serving.number = 2;
  serving.state = rollover::GenerationState::kServing;
  serving.launch.instances = 2;
  serving.whole = 2;
  serving.was_ready = true;
  serving.instances = {ready(), ready()};
  state.generations = {old, serving};
  state.last_launch = serving.launch;
  state.last_drain = 1;
  state.route = {{2, 0}, {2, 1}};
  driver.definitions.push_back({1, 0, {web(), {{"A", "b"}}, {}}});
  driver.definitions.push_back({2, 1, {}});
  driver.next_number = 2;
  driver.slots = {process(fd, 1, 0), process(fd, 2, 0), process(fd, 2, 1)};
  driver.drains = {1};
  driver.waiters.push_back({(std::uint64_t{3} << 32) | 1, true, 1, {.reason = "", .from = 1, .to = 2}});
  driver.last_report = rollover::Report{.reason = "", .from = 1, .to = 2, .duration = 250ms};
  return driver;
}

rollover::DriverRecord raw_driver() {
  rollover::DriverRecord driver;
  driver.service = raw();
  driver.state.phase = rollover::Phase::kPaused;
  driver.state.last_number = 1;
  driver.state.last_served = 1;
  driver.definitions.push_back({1, 0, {raw(), {}, {}}});
  driver.next_number = 1;
  return driver;
}

HostedRecord hosted(std::string name, net::ServiceId id, rollover::DriverRecord driver, Numbers& fd) {
  HostedRecord record;
  record.name = std::move(name);
  record.id = id;
  record.listeners.push_back(
      {"127.0.0.1:8080", SocketAddress::loopback(8080), fd.next(), std::nullopt, false});
  record.leaving_listeners.push_back({"unix:/run/raw.sock", SocketAddress::unix_path("/run/raw.sock").value(),
                                      fd.next(), FileIdentity{"/run/raw.sock", 1, 2}, true});
  record.driver = std::move(driver);
  record.has_served = true;
  record.rolling_to = record.driver.service;
  return record;
}

SteeredRecord steered(Numbers& fd) {
  SteeredRecord record;
  record.addresses = {SocketAddress::loopback(8080)};
  record.ports = {8080};
  record.service = 0;
  const steering::ListenerRecord listener{fd.next(), SocketAddress::loopback(61000), 2, 77, 1020, 5};
  record.processes.push_back({{2, 0}, 1020, SocketAddress::loopback(61000), {listener}});
  record.route = {{2, 0}};
  record.asked = record.steered = true;
  const steering::ListenerRecord orphan{fd.next(), SocketAddress::loopback(61001), 2, 78, 1010, 5};
  record.orphans.push_back({SocketAddress::loopback(61001), {orphan}, at(104)});
  return record;
}

}  // namespace

Record sample_record() {
  Numbers fd;
  Record record;
  record.upgrade.request = {(std::uint64_t{3} << 32) | 2, "/opt/relayd"};
  record.upgrade.from_version = "0.1.0";
  record.upgrade.binary = "/opt/relayd";
  record.upgrade.image = fd.next();
  record.upgrade.former = fd.next();
  record.upgrade.silent_since_ns = 123'456'789;
  record.upgrade.count = 4;
  record.further.push_back({0, ""});
  record.config.threads = 2;
  record.config.services = {web(), raw()};
  record.config_file = "/etc/relayd.yaml";
  record.control_path = "/run/relayd/relayd.sock";
  record.runtime_directory = "/run/relayd";
  record.pid_file = "/run/relayd/relayd.pid";
  record.nofile_soft = 1024;
  record.nofile_hard = 524288;
  record.started = at(10);
  record.next_id = 3;
  record.told_ready = true;
  record.passed.push_back({"web", fd.next()});
  record.keeper = {999, fd.next(), fd.next()};
  record.strays = {1234};
  record.plane.began = at(11);
  record.plane.services = {{kWeb, false, 5, {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12}}, {kRaw, true, 0, {}}};
  record.plane.workers = {worker(fd), {}};
  record.steering =
      steering::SwitchRecord{steering::kLayout, fd.next(), fd.next(), fd.next(), fd.next(), {}, 1, {}};
  record.steering->rows.emplace_back(0, steering::SocketRow{0, 1, 0, 0});
  record.services.push_back(hosted("web", kWeb, web_driver(fd), fd));
  record.services.back().steering = steered(fd);
  record.services.push_back(hosted("raw", kRaw, raw_driver(), fd));
  record.events.push_back({1, 1'700'000'000'000, "web", "switched", 2, 1, "on", {{"reason", "none"}}});
  record.last_event = 1;
  ReloadRecord& reload = record.reloads.emplace_back();
  reload.id = 1;
  reload.add = {"raw"};
  reload.failures = "no";
  reload.rolling = {"web"};
  record.last_reload = 1;
  record.control.fd = fd.next();
  record.control.file.path = record.control_path;
  record.control.next_client = 4;
  control::ClientRecord client;
  client.id = 3;
  client.fd = fd.next();
  client.input = "{\"half\":";
  client.output = "rest\n";
  client.next_token = 3;
  client.requests = {{2, R"({"jsonrpc":"2.0","id":1,"method":"upgrade"})"}};
  client.following = "web";
  record.control.clients = {client};
  return record;
}

}  // namespace relayd::upgrade::test
