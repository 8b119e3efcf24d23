#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <map>
#include <sstream>
#include <string>
#include <vector>

#include "proxy/rollover/machine.h"

namespace relayd::rollover {

using std::chrono_literals::operator""ms;
using std::chrono_literals::operator""s;

// An action as a word, notes left out: "start 2.0", "route 1.0 1.1", "ended failed".
inline std::string word(const Action& action) {
  std::ostringstream out;
  const auto where = [&out](const char* verb, GenerationNumber g, int i) {
    out << verb << " " << g;
    if (i >= 0) out << "." << i;
  };
  std::visit(
      [&](const auto& a) {
        using A = std::decay_t<decltype(a)>;
        if constexpr (std::is_same_v<A, action::CreateGeneration>) {
          out << "create " << a.generation;
          if (a.copy_of != 0) out << " as " << a.copy_of;
        } else if constexpr (std::is_same_v<A, action::StartInstance>) {
          where("start", a.generation, a.instance);
        } else if constexpr (std::is_same_v<A, action::StopInstance>) {
          where("stop", a.generation, a.instance);
        } else if constexpr (std::is_same_v<A, action::KillInstance>) {
          where("kill", a.generation, a.instance);
        } else if constexpr (std::is_same_v<A, action::SetRoute>) {
          out << "route";
          for (const RouteEntry& e : a.route) out << " " << e.generation << "." << e.instance;
        } else if constexpr (std::is_same_v<A, action::Drain>) {
          where("drain", a.generation, a.instance);
        } else if constexpr (std::is_same_v<A, action::Cut>) {
          where("cut", a.generation, a.instance);
          if (a.kind == net::ConnectionKind::kPlain) out << " plain";
          if (a.kind == net::ConnectionKind::kTunnels) out << " tunnels";
        } else if constexpr (std::is_same_v<A, action::SpreadCloses>) {
          out << "spread " << a.generation;
          if (a.kind == net::ConnectionKind::kPlain) out << " plain";
          if (a.kind == net::ConnectionKind::kTunnels) out << " tunnels";
          out << " over " << a.over.count();
        } else if constexpr (std::is_same_v<A, action::StopAccepting>) {
          out << "stop accepting";
        } else if constexpr (std::is_same_v<A, action::CloseHeld>) {
          out << "close held";
        } else if constexpr (std::is_same_v<A, action::RolloverEnded>) {
          out << "ended " << to_string(a.rollover.outcome);
        } else if constexpr (std::is_same_v<A, action::WantRollover>) {
          out << "want rollover";
        } else if constexpr (std::is_same_v<A, action::LaunchFailed>) {
          out << "launch failed";
        } else if constexpr (std::is_same_v<A, action::Stopped>) {
          out << "stopped";
        }
      },
      action);
  return out.str();
}

class Machine : public testing::Test {
 protected:
  using Words = std::vector<std::string>;

  Words send(const Event& event) {
    Words words;
    for (const Action& action : step(state, event, now)) {
      if (const auto* ended = std::get_if<action::RolloverEnded>(&action)) last_ended = ended->rollover;
      if (const auto* drain = std::get_if<action::Drain>(&action)) drains[drain->generation] = drain->drain;
      if (std::string w = word(action); !w.empty()) words.push_back(std::move(w));
    }
    EXPECT_EQ(broken_invariant(state), "");
    return words;
  }
  Words ready(GenerationNumber g, InstanceIndex i = 0) { return send(event::InstanceReady{g, i}); }
  Words exited(GenerationNumber g, InstanceIndex i = 0) {
    return send(event::InstanceExited{g, i, "exit status 1"});
  }
  Words drained(GenerationNumber g) { return send(event::Drained{drains.at(g)}); }
  Words roll(config::Mode mode) { return send(event::Rollover{mode, policy, launch}); }
  Words later(Duration d) {
    now += d;
    return send(event::Tick{"last check: refused"});
  }
  void serve() {
    send(event::Start{policy, launch});
    for (unsigned i = 0; i < launch.instances; ++i) ready(1, static_cast<InstanceIndex>(i));
    ASSERT_EQ(state.phase, Phase::kServing);
  }

  State state;
  TimePoint now{100s};
  Policy policy{30s, 2, 0s, 30s, {}};
  Launch launch{1, 10s, 5s, {100ms, 1s}, config::StopWhen::kAfterDrain};
  std::optional<RolloverInProgress> last_ended;
  std::map<GenerationNumber, std::uint64_t> drains;
};

}  // namespace relayd::rollover
