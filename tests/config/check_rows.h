#pragma once

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <vector>

#include "proxy/config/checks.h"

namespace relayd::config {

// As the command line makes it: one service "default".
inline Config runnable() {
  Config config;
  Service& service = config.services.emplace_back();
  service.name = "default";
  service.listen = {":8080"};
  service.backend.command = {"app", "{address}"};
  return config;
}

inline std::vector<std::string> faults_of(const Config& config) {
  std::vector<std::string> texts;
  for (const KeyFault& fault : check(config)) texts.push_back(fault.key + ": " + fault.message);
  return texts;
}

// One change of that service, and the one fault that it is to have.
struct Row {
  std::function<void(Service&)> change;
  const char* key;  // within the service; null: no fault
  const char* message = "";
};

inline void expect_rows(const std::vector<Row>& rows) {
  for (std::size_t i = 0; i < rows.size(); ++i) {
    SCOPED_TRACE("row " + std::to_string(i) + " " + (rows[i].key == nullptr ? "" : rows[i].key));
    Config config = runnable();
    rows[i].change(config.services[0]);
    const auto faults = faults_of(config);
    if (rows[i].key == nullptr) {
      EXPECT_THAT(faults, testing::IsEmpty());
      continue;
    }
    ASSERT_EQ(faults.size(), 1U) << testing::PrintToString(faults);
    EXPECT_THAT(faults[0], testing::StartsWith("services.default." + std::string(rows[i].key) + ": "));
    EXPECT_THAT(faults[0], testing::HasSubstr(rows[i].message));
  }
}

}  // namespace relayd::config
