#include "tests/config/check_rows.h"

// The ways past relayd, and to it: what each of them rules out.
namespace relayd::config {
namespace {

TEST(Ways, Steering) {
  const char* const kPast = "does not go with 'backend.steering', which takes connections past relayd";
  expect_rows({
      {[](Service& s) { s.backend.steering = Steering::kOn; }, nullptr},
      {[](Service& s) { s.backend.steering = Steering::kAuto; }, nullptr},
      {[](Service& s) {
         s.backend.steering = Steering::kAuto;
         s.proxy_protocol.accept = true;
       },
       "proxy_protocol.accept", kPast},
      {[](Service& s) {
         s.backend.steering = Steering::kOn;
         s.proxy_protocol.send = ProxyProtocol::kV2;
       },
       "proxy_protocol.send", kPast},
      {[](Service& s) {
         s.backend.steering = Steering::kOn;
         s.forwarded_headers = true;
       },
       "forwarded_headers", kPast},
      {[](Service& s) {
         s.backend.steering = Steering::kOn;
         s.transparent = true;
       },
       "transparent", kPast},
      {[](Service& s) {
         s.backend.steering = Steering::kOn;
         s.rollover.close_spread = 1s;
       },
       "rollover.close_spread", kPast},
      {[](Service& s) {
         s.backend.steering = Steering::kOn;
         s.backend.address = AddressKind::kSocket;
       },
       "backend.address", "has no TCP listener to steer to"},
      {[](Service& s) {
         s.backend.steering = Steering::kAuto;
         s.listen = {"unix:/run/web.sock"};
       },
       "backend.steering", "has only Unix sockets"},
      {[](Service& s) {
         s.backend.steering = Steering::kOn;
         s.health.check = Check::kNone;
       },
       "health.check", "cannot be steered to"},
  });
}

// With handoff relayd never sees a client: whatever it would do for one is refused, not ignored.
TEST(Ways, Handoff) {
  const auto handoff = [](std::function<void(Service&)> change) {
    return [change = std::move(change)](Service& s) {
      s.backend.address = AddressKind::kHandoff;
      s.backend.command = {"app", "{generation}"};
      change(s);
    };
  };
  const char* const kNo = "has no effect with 'address: handoff'";
  expect_rows({
      {handoff([](Service&) {}), nullptr},
      {handoff([](Service& s) { s.health.check = Check::kNone; }), nullptr},
      {handoff([](Service& s) { s.health.check = Check::kNotify; }), nullptr},
      {handoff([](Service& s) {
         s.health.check = Check::kCommand;
         s.health.command = {"./ready"};
       }),
       nullptr},
      {handoff([](Service& s) { s.health.check = Check::kTcp; }), "health.check", "READY=1"},
      {handoff([](Service& s) { s.health.path = "/up"; }), "health.path", "READY=1"},
      {handoff([](Service& s) {
         s.backend.command = {"app", "{address}"};
       }),
       "backend.command[1]", "from LISTEN_FDS"},
      {handoff([](Service& s) {
         s.backend.command = {"app", "{port}"};
       }),
       "backend.command[1]", "from LISTEN_FDS"},
      {handoff([](Service& s) { s.protocol = Protocol::kHttp; }), "protocol", kNo},
      {handoff([](Service& s) { s.forwarded_headers = true; }), "forwarded_headers", kNo},
      {handoff([](Service& s) { s.proxy_protocol.accept = true; }), "proxy_protocol.accept", kNo},
      {handoff([](Service& s) { s.proxy_protocol.send = ProxyProtocol::kV2; }), "proxy_protocol.send", kNo},
      {handoff([](Service& s) { s.limits.max_connections = 5; }), "limits.max_connections", kNo},
      {handoff([](Service& s) { s.limits.connect_timeout = 1s; }), "limits.connect_timeout", kNo},
      {handoff([](Service& s) { s.limits.idle_timeout = 1s; }), "limits.idle_timeout", kNo},
      {handoff([](Service& s) { s.backend.balance = Balance::kRandom; }), "backend.balance", kNo},
      {handoff([](Service& s) { s.rollover.tunnel_timeout = 1s; }), "rollover.tunnel_timeout", kNo},
      {handoff([](Service& s) { s.rollover.close_spread = 1s; }), "rollover.close_spread", kNo},
      {handoff([](Service& s) { s.hold.timeout = 1s; }), "hold.timeout", kNo},
      {handoff([](Service& s) { s.hold.max_connections = 1; }), "hold.max_connections", kNo},
      {handoff([](Service& s) { s.hold.release_rate = 1; }), "hold.release_rate", kNo},
  });
}

TEST(Ways, Activation) {
  const auto activation = [](std::vector<std::string> command) {
    return [command = std::move(command)](Service& s) {
      s.backend.address = AddressKind::kActivation;
      s.backend.command = command;
    };
  };
  expect_rows({
      {activation({"app"}), nullptr},
      {activation({"app", "{address}", "{host}", "{port}"}), nullptr},
      {activation({"app", "{socket}"}), "backend.command[1]", "{socket} has a value only with"},
  });
}

TEST(Ways, InheritedSockets) {
  expect_rows({
      {[](Service& s) {
         s.listen = {"fd:web", "fd:web-tls", ":8080"};
       },
       nullptr},
      {[](Service& s) { s.listen = {"fd:"}; }, "listen[0]", "FileDescriptorName="},
      {[](Service& s) { s.listen = {"fd:a:b"}; }, "listen[0]", "FileDescriptorName="},
      {[](Service& s) {
         s.listen = {"fd:web", "fd:web"};
       },
       "listen[1]", "clashes with services.default.listen[0]"},
  });
}

}  // namespace
}  // namespace relayd::config
