// Clients that one worker accepts and gives to another, while their service goes. The workers are driven by
// hand: what one of them knows before the other is the point.
#include <sys/resource.h>

#include <future>

#include "proxy/net/worker.h"
#include "tests/net/support.h"

namespace relayd::net::test {
namespace {

class HandOver : public ::testing::Test {
 protected:
  HandOver() {
    plane_.max_descriptors = 4000;
    plane_.workers = 2;
    plane_.loads = std::make_unique<WorkerLoad[]>(2);
    plane_.loads[0].connections = 100'000;  // so that the first gives away what it can
    for (unsigned i = 0; i < 2; ++i) workers_.push_back(std::make_unique<Worker>(i, plane_));
    for (const auto& worker : workers_) plane_.peers.push_back(worker.get());
    for (const auto& worker : workers_) worker->start();
    settings_.hold_max = 1000;
  }
  ~HandOver() override {
    for (const auto& worker : workers_) worker->stop();
  }
  Worker& first() { return *workers_[0]; }
  Worker& second() { return *workers_[1]; }

  static Listener listener() {
    Listener made = make_listener(SocketAddress::loopback(0));
    EXPECT_TRUE(set_nonblocking(made.socket.get(), true));
    return made;
  }
  void add(Worker& worker, ServiceId id, const std::shared_ptr<ServiceShared>& shared,
           const std::vector<int>& listeners) {
    worker.post([=, settings = settings_](Worker& there) {
      there.add_service(id, shared, settings);
      there.update_service(id, settings, listeners, [] {});
    });
  }
  static void route(Worker& worker, ServiceId id, const SocketAddress& address) {
    const auto route = std::make_shared<const Route>(Route{{}, {make_endpoint(address)}});
    worker.post([=](Worker& there) { there.set_route(id, route); });
  }
  // All that was posted before has run, and the event that the worker was at.
  static void settle(Worker& worker) {
    std::promise<void> done;
    worker.post([&](Worker&) { done.set_value(); });
    done.get_future().wait();
  }
  static void await(const std::function<bool()>& condition) {
    const TimePoint until = monotonic_now() + kPatience;
    while (!condition() && monotonic_now() < until) std::this_thread::yield();
    EXPECT_TRUE(condition());
  }

  PlaneShared plane_;
  ServiceSettings settings_;
  std::vector<std::unique_ptr<Worker>> workers_;
};

// The walk that closes a service's connections takes a turn for every thousand records.
TEST_F(HandOver, ToAWorkerThatIsRemovingTheService) {
  constexpr unsigned kMany = 520;  // more than a page of records, so that there are more than a thousand
  rlimit files{};
  ::getrlimit(RLIMIT_NOFILE, &files);
  files.rlim_cur = files.rlim_max;
  if (files.rlim_max < 2000 || ::setrlimit(RLIMIT_NOFILE, &files) != 0) GTEST_SKIP() << "needs 2000 files";
  const Listener front = listener();
  const Listener waiting = listener();
  const Listener many = listener();
  std::vector<std::shared_ptr<ServiceShared>> shared;
  for (int i = 0; i < 4; ++i) shared.push_back(std::make_shared<ServiceShared>(2));
  EchoServer echo;
  add(second(), 1, shared[1], {});
  add(second(), 2, shared[2], {waiting.socket.get()});
  add(second(), 3, shared[3], {many.socket.get()});
  settle(second());
  add(first(), 1, shared[1], {front.socket.get()});
  std::vector<Peer> clients;
  clients.push_back(Peer::connect(waiting.address));
  for (unsigned i = 0; i < kMany; ++i) clients.push_back(Peer::connect(many.address));
  await([&] { return shared[2]->held == 1 && shared[3]->held == kMany; });

  // A release holds back the commands behind it until the walk has begun.
  std::promise<void> go_on;
  second().post([&](Worker&) { go_on.get_future().wait(); });
  std::atomic<bool> removed{false};
  second().post([&](Worker& there) { there.remove_service(1, [&] { removed = true; }); });
  route(second(), 2, echo.address());
  Peer client = Peer::connect(front.address);
  await([&] { return shared[1]->counters[0].accepted == 1; });
  settle(first());  // it is in the mail
  go_on.set_value();
  await([&] { return removed.load(); });
  EXPECT_EQ(client.receive_all().error, 0);
  EXPECT_EQ(shared[1]->active, 0U);
  EXPECT_EQ(shared[1]->held, 0U);
}

}  // namespace
}  // namespace relayd::net::test
