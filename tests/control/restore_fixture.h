#pragma once

#include <gmock/gmock.h>

#include <cstdint>
#include <optional>
#include <string>

#include "tests/control/control_fixture.h"

namespace relayd::control {

inline const RolloverCall kRollWeb{"web", {}, {}};

// Upgrades of relayd as the server sees them: saved, forgotten, restored.
class Restore : public ControlFixture {
 protected:
  std::string answer(RawClient& client) {
    std::optional<std::string> line;
    EXPECT_TRUE(wait_until([&] { return (line = client.line()).has_value() || client.closed(); }));
    return line.value_or("(closed)");
  }
  std::optional<std::uint64_t> answered_id(RawClient& client) {
    const auto message = parse_message(answer(client));
    EXPECT_TRUE(message && !message->failure);
    return message ? message->id : std::nullopt;
  }
  void turn() {
    for (int i = 0; i < 5; ++i) loop_.run_once();
  }
  void upgrade() {
    restore(forget_server());
    if (server_) server_->resume();
  }
  ClientRecord only_client() const {
    const ServerRecord record = server_->save();
    EXPECT_EQ(record.clients.size(), 1u);
    return record.clients.empty() ? ClientRecord{} : record.clients[0];
  }
};

}  // namespace relayd::control
