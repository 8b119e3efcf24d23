#include <sys/socket.h>

#include "tests/backend/fixture.h"

// Readiness and health of real processes.
namespace relayd::backend {
namespace {

using testing::HasSubstr;

// Answers every connection with the status line found in the file "status", after reading the request into
// "request".
const char* const kHttpApp = R"(
import os, socket
if 'RELAY_SOCKET' in os.environ:
    s = socket.socket(socket.AF_UNIX); s.bind(os.environ['RELAY_SOCKET'])
else:
    s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((os.environ['HOST'], int(os.environ['PORT'])))
s.listen(16)
while True:
    c, _ = s.accept()
    request = c.recv(4096)
    if request: open('request', 'wb').write(request)
    c.sendall(b'HTTP/1.1 ' + open('status', 'rb').read() + b'\r\nContent-Length: 0\r\n\r\n')
    c.close()
)";

const char* const kNotifyApp = R"(
import os, socket, time
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
open('socket.new', 'w').write(os.environ['NOTIFY_SOCKET']); os.rename('socket.new', 'socket')
def wait(name):
    while not os.path.exists(name): time.sleep(0.005)
def tell(text): s.sendto(text, '\0' + os.environ['NOTIFY_SOCKET'][1:])
wait('go1'); tell(b'STATUS=warming up')
wait('go2'); tell(b'READY=1\nSTATUS=serving')
time.sleep(1000)
)";

class InstanceChecksTest : public BackendTest {
 protected:
  bool run_until_error(const std::string& expected) {
    const bool seen = run_until([&] { return instance_->last_check_error() == expected; });
    EXPECT_EQ(instance_->last_check_error(), expected);
    return seen;
  }
  bool run_until_ready() {
    return run_until([this] { return seen_.ready == 1; });
  }
};

TEST_F(InstanceChecksTest, NoneIsReadyAtOnce) {
  start(shell("sleep 1000"));
  EXPECT_EQ(seen_.ready, 0) << "never inside start()";
  EXPECT_TRUE(run_until_ready());
}

TEST_F(InstanceChecksTest, ChecksBringTheProxyHeaderThatTheServiceSends) {
  write_text(file("status"), "200 OK");
  auto definition = python(kHttpApp, config::Check::kHttp);
  definition.proxy_protocol.send = config::ProxyProtocol::kV1;
  start(definition);
  ASSERT_TRUE(run_until_ready());
  EXPECT_THAT(read_text(file("request")), testing::StartsWith("PROXY UNKNOWN\r\nGET / HTTP/1.1\r\n"));
}

TEST_F(InstanceChecksTest, NotifyFromTheAppAndNotFromAForeigner) {
  start(python(kNotifyApp, config::Check::kNotify));
  ASSERT_TRUE(run_until([this] { return exists(file("socket")); }));
  const auto to = SocketAddress::unix_path(read_text(file("socket")));
  ASSERT_TRUE(to);
  const Descriptor foreign(::socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
  ASSERT_EQ(::sendto(foreign.get(), "READY=1", 7, 0, to->get(), to->length()), 7);
  write_text(file("go1"), "");
  ASSERT_TRUE(
      run_until([this] { return instance_->status_text() == "warming up"; }));  // came after the foreign one
  EXPECT_EQ(seen_.ready, 0);
  write_text(file("go2"), "");
  ASSERT_TRUE(run_until_ready());
  EXPECT_EQ(instance_->status_text(), "serving");
}

TEST_F(InstanceChecksTest, AutoTakesReadyBeforeAnythingListens) {
  start(python(kNotifyApp, config::Check::kAuto));
  write_text(file("go1"), "");
  ASSERT_TRUE(run_until([this] { return instance_->status_text() == "warming up"; }));
  ASSERT_TRUE(
      run_until_error("connect " + instance_->address().to_string() + ": Connection refused (ECONNREFUSED)"));
  EXPECT_EQ(seen_.ready, 0);
  write_text(file("go2"), "");
  EXPECT_TRUE(run_until_ready());
}

TEST_F(InstanceChecksTest, AutoTakesAConnect) {
  write_text(file("status"), "503 Not Asked");
  start(python(kHttpApp, config::Check::kAuto));
  EXPECT_TRUE(run_until_ready());
}

TEST_F(InstanceChecksTest, TcpOverAUnixSocket) {
  write_text(file("status"), "503 Not Asked");
  auto definition = python(kHttpApp, config::Check::kTcp);
  definition.backend.address = config::AddressKind::kSocket;
  start(definition);
  EXPECT_TRUE(run_until_ready());
}

TEST_F(InstanceChecksTest, HttpReadyUnhealthyHealthy) {
  write_text(file("status"), "503 Service Unavailable");
  auto definition = python(kHttpApp, config::Check::kAuto);
  definition.health.path = "/up?deep=1";
  start(definition);
  ASSERT_TRUE(run_until_error("GET /up?deep=1: 503 Service Unavailable"));
  EXPECT_EQ(seen_.ready, 0);
  EXPECT_EQ(read_text(file("request")),
            "GET /up?deep=1 HTTP/1.1\r\nHost: " + instance_->address().to_string() +
                "\r\nUser-Agent: relayd\r\nAccept: */*\r\nConnection: close\r\n\r\n");
  write_text(file("status"), "204 No Content");
  ASSERT_TRUE(run_until_ready());
  EXPECT_EQ(instance_->last_check_error(), "");
  EXPECT_TRUE(seen_.unhealthy.empty()) << "failures before it was ready do not count";

  write_text(file("status"), "500 Broken");
  ASSERT_TRUE(run_until([this] { return !seen_.unhealthy.empty(); }));
  EXPECT_EQ(seen_.unhealthy[0], "GET /up?deep=1: 500 Broken");
  EXPECT_EQ(seen_.healthy, 0);
  write_text(file("status"), "200 OK");
  ASSERT_TRUE(run_until([this] { return seen_.healthy == 1; }));
  EXPECT_EQ(seen_.unhealthy.size(), 1U);
  EXPECT_EQ(seen_.ready, 1);
}

TEST_F(InstanceChecksTest, AutoWithHttpTakesAnyAnswerBelow500) {
  write_text(file("status"), "500 Loading");
  auto definition = python(kHttpApp, config::Check::kAuto);
  definition.protocol = config::Protocol::kHttp;
  definition.backend.address = config::AddressKind::kSocket;
  start(definition);
  ASSERT_TRUE(run_until_error("GET /: 500 Loading"));
  write_text(file("status"), "404 Not Found");
  EXPECT_TRUE(run_until_ready());
}

TEST_F(InstanceChecksTest, HttpTimeoutAndNonsense) {
  auto definition = python(R"(
import os, socket, time
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind((os.environ['HOST'], int(os.environ['PORT']))); s.listen(16)
kept = []
while True:
    c, _ = s.accept()
    c.recv(4096)
    if os.path.exists('nonsense'): c.sendall(b'SSH-2.0-x\r\n')
    elif os.path.exists('close'): c.close()
    else: kept.append(c)
)",
                           config::Check::kHttp);
  definition.health.path = "/up";
  definition.health.timeout = Duration(100);
  start(definition);
  ASSERT_TRUE(run_until_error("GET /up: no answer within 100ms"));
  write_text(file("close"), "");
  ASSERT_TRUE(run_until_error("GET /up: the connection was closed before an answer came"));
  write_text(file("nonsense"), "");
  ASSERT_TRUE(run_until_error("GET /up: the answer is not HTTP/1: 'SSH-2.0-x'"));
  EXPECT_EQ(seen_.ready, 0);
}

TEST_F(InstanceChecksTest, CommandWithTemplates) {
  auto definition = shell("sleep 1000", config::Check::kCommand);
  definition.health.command = {
      "sh", "-c", "echo $RELAY_SERVICE > checked; [ -e ok ] || {{ echo not yet at $0; exit 5; }}",
      "{address}"};
  start(definition);
  ASSERT_TRUE(
      run_until_error("check command sh: exit status 5: not yet at " + instance_->address().to_string()));
  EXPECT_EQ(read_text(file("checked")), "web\n");
  EXPECT_EQ(seen_.ready, 0);
  write_text(file("ok"), "");
  EXPECT_TRUE(run_until_ready());
}

TEST_F(InstanceChecksTest, CommandThatHangsIsKilledWithItsGroup) {
  auto definition = shell("sleep 1000", config::Check::kCommand);
  definition.health.timeout = Duration(300);
  definition.health.command = {"sh", "-c", "sleep 1000 & echo $! > pid.new; mv pid.new pid; wait"};
  start(definition);
  ASSERT_TRUE(run_until([this] { return exists(file("pid")); }));
  const pid_t grandchild = std::stoi(read_text(file("pid")));
  ASSERT_TRUE(run_until_error("check command sh: no result within 300ms, killed"));
  EXPECT_TRUE(run_until([&] { return !is_running(grandchild); }));
}

TEST_F(InstanceChecksTest, CommandThatCannotRunIsAFailedCheck) {
  auto definition = shell("sleep 1000", config::Check::kCommand);
  definition.health.command = {"./missing.sh"};
  start(definition);
  EXPECT_TRUE(run_until_error("check command: exec ./missing.sh: No such file or directory (ENOENT)"));
}

// READY=1 and the end of the process can be there in the same turn of the loop, in either order.
TEST_F(InstanceChecksTest, ReadyOfADeadProcessIsNotReported) {
  start(python(R"(
import os, socket
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.sendto(b'READY=1', '\0' + os.environ['NOTIFY_SOCKET'][1:])
os._exit(1)
)",
               config::Check::kNotify));
  const Descriptor watch = open_pidfd(instance_->pid());
  pollfd entry{watch.get(), POLLIN, 0};
  ASSERT_EQ(::poll(&entry, 1, 20000), 1);  // ended, and the loop has not run yet
  ASSERT_TRUE(run_until_exit());
  EXPECT_EQ(seen_.ready, 0);
}

TEST_F(InstanceChecksTest, StopEndsTheChecks) {
  write_text(file("status"), "500 Stopping");
  auto definition =
      python(std::string("import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n") + kHttpApp,
             config::Check::kHttp);
  definition.health.path = "/up";
  start(definition);
  ASSERT_TRUE(run_until_error("GET /up: 500 Stopping"));
  instance_->stop();
  write_text(file("status"), "200 OK");
  for (int i = 0; i < 20; ++i) run_until([n = 0]() mutable { return ++n > 10; });
  EXPECT_EQ(seen_.ready, 0);
  EXPECT_EQ(instance_->last_check_error(), "GET /up: 500 Stopping");  // kept for the report
}

}  // namespace
}  // namespace relayd::backend
