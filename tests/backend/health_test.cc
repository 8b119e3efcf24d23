#include "proxy/backend/health.h"

#include <sys/socket.h>

#include "tests/backend/fixture.h"

namespace relayd::backend {
namespace {

using Kind = HealthPlan::Kind;
using Verdict = HealthRecord::Verdict;

TEST(PlanHealth, Auto) {
  struct Case {
    config::Check check;
    const char* path;
    config::Protocol protocol;
    Kind kind;
    const char* asked;
    int bad_from;
    bool notify;
  };
  using config::Check;
  using config::Protocol;
  const std::vector<Case> table = {
      {Check::kAuto, "", Protocol::kAuto, Kind::kTcp, "/", 300, true},
      {Check::kAuto, "", Protocol::kTcp, Kind::kTcp, "/", 300, true},
      {Check::kAuto, "/up", Protocol::kAuto, Kind::kHttp, "/up", 300, false},
      {Check::kAuto, "/up", Protocol::kHttp, Kind::kHttp, "/up", 300, false},
      {Check::kAuto, "", Protocol::kHttp, Kind::kHttp, "/", 500, false},
      {Check::kHttp, "", Protocol::kAuto, Kind::kHttp, "/", 300, false},
      {Check::kTcp, "/up", Protocol::kAuto, Kind::kTcp, "/up", 300, false},
      {Check::kNotify, "", Protocol::kAuto, Kind::kNotify, "/", 300, true},
      {Check::kCommand, "", Protocol::kAuto, Kind::kCommand, "/", 300, false},
      {Check::kNone, "", Protocol::kAuto, Kind::kNone, "/", 300, false},
  };
  for (const Case& c : table) {
    config::Service service;
    service.health.check = c.check;
    service.health.path = c.path;
    service.protocol = c.protocol;
    const HealthPlan plan = plan_health(service);
    EXPECT_EQ(plan.kind, c.kind);
    EXPECT_EQ(plan.path, c.asked);
    EXPECT_EQ(plan.bad_from, c.bad_from);
    EXPECT_EQ(plan.ready_by_notify, c.notify);
  }
}

TEST(PlanHealth, ProxyHeaderThatNamesNobody) {
  config::Service service;
  EXPECT_EQ(plan_health(service).preamble, "");
  service.proxy_protocol.send = config::ProxyProtocol::kV1;
  EXPECT_EQ(plan_health(service).preamble, "PROXY UNKNOWN\r\n");
  service.proxy_protocol.send = config::ProxyProtocol::kV2;
  EXPECT_EQ(plan_health(service).preamble, std::string("\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", 16));
}

HealthPlan tcp_plan(Duration interval) {
  HealthPlan plan;
  plan.interval = interval;
  return plan;
}

TEST(HealthRecord, ThreeFailuresInARowAndOneSuccess) {
  HealthRecord record(tcp_plan(Duration(1000)));
  for (int i = 0; i < 5; ++i) EXPECT_EQ(record.failed("not yet"), Verdict::kNothing);
  EXPECT_EQ(record.succeeded(), Verdict::kReady);
  EXPECT_EQ(record.last_error(), "");
  EXPECT_EQ(record.failed("a"), Verdict::kNothing);
  EXPECT_EQ(record.failed("b"), Verdict::kNothing);
  EXPECT_EQ(record.succeeded(), Verdict::kNothing);  // not in a row
  EXPECT_EQ(record.failed("c"), Verdict::kNothing);
  EXPECT_EQ(record.failed("d"), Verdict::kNothing);
  EXPECT_EQ(record.failed("e"), Verdict::kUnhealthy);
  EXPECT_EQ(record.last_error(), "e");
  EXPECT_EQ(record.failed("f"), Verdict::kNothing);  // said once
  EXPECT_EQ(record.succeeded(), Verdict::kHealthy);
  EXPECT_EQ(record.succeeded(), Verdict::kNothing);
}

TEST(HealthRecord, PaceBeforeReady) {
  for (const auto& [interval, longest] :
       std::vector<std::pair<int, int>>{{0, 250}, {1000, 250}, {100, 100}, {10, 50}}) {
    HealthRecord record(tcp_plan(Duration(interval)));
    EXPECT_EQ(record.next(), Duration(50));
    Duration last = *record.next();
    for (int i = 0; i < 100; ++i) {
      record.failed("x");
      EXPECT_GE(*record.next(), last);
      last = *record.next();
    }
    EXPECT_EQ(last, Duration(longest)) << interval;
  }
}

TEST(HealthRecord, PaceOnceReady) {
  HealthRecord every(tcp_plan(Duration(10)));
  every.succeeded();
  EXPECT_EQ(every.next(), Duration(10));
  every.failed("x");
  EXPECT_EQ(every.next(), Duration(10));
  HealthRecord never(tcp_plan(Duration(0)));
  never.succeeded();
  EXPECT_EQ(never.next(), std::nullopt);
}

TEST(HealthRecord, NotifyIsBelievedForGoodAndOnlyWhereItCounts) {
  HealthPlan plan = tcp_plan(Duration(10));
  HealthRecord deaf(plan);
  EXPECT_EQ(deaf.notified(), Verdict::kNothing);
  plan.ready_by_notify = true;
  HealthRecord record(plan);
  EXPECT_EQ(record.notified(), Verdict::kReady);
  EXPECT_EQ(record.notified(), Verdict::kNothing);
  EXPECT_EQ(record.next(), std::nullopt);
  HealthRecord connected(plan);
  EXPECT_EQ(connected.succeeded(), Verdict::kReady);
  EXPECT_EQ(connected.notified(), Verdict::kNothing);
  EXPECT_EQ(connected.next(), Duration(10));  // the connect came first
}

TEST(StatusLine, Table) {
  EXPECT_EQ(parse_status_line("HTTP/1.1 200 OK")->code, 200);
  EXPECT_EQ(parse_status_line("HTTP/1.0 503 Service Unavailable")->text, "503 Service Unavailable");
  EXPECT_EQ(parse_status_line("HTTP/1.1 204")->text, "204");
  EXPECT_EQ(parse_status_line("HTTP/1.1 200 \x1b[31m")->text, "200 ?[31m");
  for (const char* line : {"", "HTTP/1.1", "HTTP/1.1 20", "HTTP/1.1 2000", "HTTP/1.1  200", "HTTP/2 200 OK",
                           "HTTP/x.1 200", "220 smtp ready", "HTTP/1.1 2x0 OK"}) {
    EXPECT_FALSE(parse_status_line(line)) << line;
  }
}

class ProbeTest : public testing::Test {
 protected:
  void SetUp() override {
    auto made = listen_on(SocketAddress::loopback(0), 16);
    ASSERT_TRUE(made);
    listener_ = std::move(*made);
    address_ = *local_address(listener_.get());
  }
  void TearDown() override {
    probe_.reset();
    EXPECT_TRUE(loop_.close());
  }
  void run(std::unique_ptr<Probe> probe) {
    probe_ = std::move(probe);
    probe_->start([this](Result<void> result) { result_ = std::move(result); });
    EXPECT_FALSE(result_) << "never inside start()";
  }
  bool run_until_result() {
    return run_until(loop_, [this] { return result_.has_value(); });
  }
  Descriptor accept() { return Descriptor(::accept4(listener_.get(), nullptr, nullptr, SOCK_CLOEXEC)); }

  std::string read_from(const Descriptor& server, std::size_t enough);

  Loop loop_;
  Descriptor listener_;
  SocketAddress address_;
  std::unique_ptr<Probe> probe_;
  std::optional<Result<void>> result_;
};

// A server that speaks first would find its greeting answered by an RST if the probe just closed.
TEST_F(ProbeTest, TcpClosesWithoutAnRst) {
  run(make_tcp_probe(loop_, address_, Duration(5000), ""));
  ASSERT_TRUE(run_until_result());
  EXPECT_TRUE(result_->has_value());
  const Descriptor server = accept();
  ASSERT_TRUE(server);
  const std::string greeting(20000, 'g');
  ASSERT_EQ(::send(server.get(), greeting.data(), greeting.size(), 0), static_cast<ssize_t>(greeting.size()));
  char byte = 0;
  ASSERT_TRUE(
      run_until(loop_, [&] { return ::recv(server.get(), &byte, 1, MSG_DONTWAIT) == 0; }));  // its FIN
  ASSERT_EQ(::shutdown(server.get(), SHUT_WR), 0);
  for (int i = 0; i < 5; ++i) run_until(loop_, [n = 0]() mutable { return ++n > 3; });
  int error = 0;
  socklen_t size = sizeof error;
  ASSERT_EQ(::getsockopt(server.get(), SOL_SOCKET, SO_ERROR, &error, &size), 0);
  EXPECT_EQ(error, 0);
  EXPECT_EQ(::recv(server.get(), &byte, 1, MSG_DONTWAIT), 0);
}

// What comes on a connection until its end, or until `enough` bytes.
std::string ProbeTest::read_from(const Descriptor& server, std::size_t enough) {
  std::string text;
  EXPECT_TRUE(run_until(loop_, [&] {
    char buffer[4096];
    const ssize_t got = ::recv(server.get(), buffer, sizeof buffer, MSG_DONTWAIT);
    if (got > 0) text.append(buffer, static_cast<std::size_t>(got));
    return got == 0 || text.size() >= enough;
  }));
  return text;
}

TEST_F(ProbeTest, TcpSendsThePreambleAndClosesCleanly) {
  run(make_tcp_probe(loop_, address_, Duration(5000), "PROXY UNKNOWN\r\n"));
  ASSERT_TRUE(run_until_result());
  EXPECT_TRUE(result_->has_value());
  const Descriptor server = accept();
  ASSERT_TRUE(server);
  EXPECT_EQ(read_from(server, 1000), "PROXY UNKNOWN\r\n");  // and its FIN
}

TEST_F(ProbeTest, HttpSendsThePreambleBeforeTheRequest) {
  const std::string preamble("\r\n\r\n\0\r\nQUIT\n\x20\0\0\0", 16);
  run(make_http_probe(loop_, address_, "/up", 300, Duration(5000), preamble));
  Descriptor server;
  ASSERT_TRUE(run_until(loop_, [&] {
    if (!server) server = accept();
    return server.valid();
  }));
  EXPECT_THAT(read_from(server, 100), testing::StartsWith(preamble + "GET /up HTTP/1.1\r\n"));
  const std::string answer = "HTTP/1.1 200 OK\r\n\r\n";
  ASSERT_EQ(::send(server.get(), answer.data(), answer.size(), 0), static_cast<ssize_t>(answer.size()));
  ASSERT_TRUE(run_until_result());
  EXPECT_TRUE(result_->has_value());
}

TEST_F(ProbeTest, RefusedConnection) {
  listener_.reset();
  run(make_tcp_probe(loop_, address_, Duration(5000), ""));
  ASSERT_TRUE(run_until_result());
  EXPECT_EQ(result_->error().message,
            "connect " + address_.to_string() + ": Connection refused (ECONNREFUSED)");
}

TEST_F(ProbeTest, MissingUnixSocket) {
  run(make_tcp_probe(loop_, *SocketAddress::unix_path("/nonexistent/app.sock"), Duration(5000), ""));
  ASSERT_TRUE(run_until_result());
  EXPECT_EQ(result_->error().message,
            "connect unix:/nonexistent/app.sock: No such file or directory (ENOENT)");
}

TEST_F(ProbeTest, StatusLineInPieces) {
  run(make_http_probe(loop_, address_, "/", 300, Duration(5000), ""));
  Descriptor server;
  ASSERT_TRUE(run_until(loop_, [&] {
    if (!server) server = accept();
    return server.valid();
  }));
  for (const std::string piece : {"HT", "TP/1.1 20", "0 OK\r", "\n"}) {
    EXPECT_FALSE(result_);
    ASSERT_EQ(::send(server.get(), piece.data(), piece.size(), 0), static_cast<ssize_t>(piece.size()));
    run_until(loop_, [n = 0]() mutable { return ++n > 3; });
  }
  ASSERT_TRUE(run_until_result());
  EXPECT_TRUE(result_->has_value());
}

TEST_F(ProbeTest, EndlessStatusLineIsCut) {
  run(make_http_probe(loop_, address_, "/", 300, Duration(5000), ""));
  Descriptor server;
  ASSERT_TRUE(run_until(loop_, [&] {
    if (!server) server = accept();
    return server.valid();
  }));
  const std::string flood(8000, 'x');
  ASSERT_EQ(::send(server.get(), flood.data(), flood.size(), 0), 8000);
  ASSERT_TRUE(run_until_result());
  EXPECT_THAT(result_->error().message, testing::StartsWith("GET /: the answer is not HTTP/1: 'xxx"));
}

TEST_F(ProbeTest, CancelledByDestruction) {
  run(make_http_probe(loop_, address_, "/", 300, Duration(50), ""));
  loop_.run_nowait();
  probe_.reset();
  run_until(loop_, [n = 0]() mutable { return ++n > 20; });
  EXPECT_FALSE(result_);
}

}  // namespace
}  // namespace relayd::backend
