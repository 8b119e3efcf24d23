// The small parts of the daemon: listeners, pid file, descriptor budget, journal.
#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <fstream>

#include "proxy/base/log.h"
#include "proxy/daemon/descriptor_limits.h"
#include "proxy/daemon/journal.h"
#include "proxy/daemon/listeners.h"
#include "proxy/daemon/pid_file.h"
#include "tests/base/scratch_directory.h"

namespace relayd {
namespace {

using testing::HasSubstr;
using testing::SizeIs;

TEST(OpenListeners, BothFamiliesShareThePortThatWasFree) {
  const auto opened = open_new_listeners({":0"}, {}, {});
  ASSERT_TRUE(opened) << opened.error().message;
  ASSERT_GE(opened->size(), 1U);  // one where the machine has no IPv6
  EXPECT_NE((*opened)[0]->address.port(), 0);
  if (opened->size() == 2) {
    EXPECT_EQ((*opened)[0]->address.port(), (*opened)[1]->address.port());
  }
}

TEST(OpenListeners, AllOrNothing) {
  const auto first = open_new_listeners({"127.0.0.1:0"}, {}, {});
  ASSERT_TRUE(first);
  const std::string taken = (*first)[0]->address.to_string();
  const auto second = open_new_listeners({"127.0.0.1:0", taken}, {}, {});
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code, EADDRINUSE);
  EXPECT_THAT(second.error().message, HasSubstr(taken));
}

TEST(OpenListeners, WhatIsOpenIsNotOpenedAgain) {
  const auto first = open_new_listeners({"127.0.0.1:0"}, {}, {});
  ASSERT_TRUE(first);
  const auto more = open_new_listeners({"127.0.0.1:0", "unix:@relayd-test-listener"}, *first, {});
  ASSERT_TRUE(more) << more.error().message;
  EXPECT_THAT(*more, SizeIs(1));
  EXPECT_THAT(named_by({"127.0.0.1:0"}, *first), SizeIs(1));
  EXPECT_THAT(named_by({"127.0.0.1:1"}, *first), SizeIs(0));
}

TEST(OpenListeners, AnotherServicesAddressIsSharedAndItsFileOutlivesTheFirst) {
  const ScratchDirectory scratch;
  const std::string entry = "unix:" + scratch.path() + "/web.sock";
  auto first = open_new_listeners({entry}, {}, {});
  ASSERT_TRUE(first) << first.error().message;
  auto second = open_new_listeners({entry}, {}, {&*first});
  ASSERT_TRUE(second) << second.error().message;
  first->clear();
  EXPECT_EQ(::access((scratch.path() + "/web.sock").c_str(), F_OK), 0);
  second->clear();
  EXPECT_NE(::access((scratch.path() + "/web.sock").c_str(), F_OK), 0);
}

TEST(OpenListeners, ARefusalLeavesNoFileBehind) {
  const ScratchDirectory scratch;
  const std::string path = scratch.path() + "/left.sock";
  EXPECT_FALSE(open_new_listeners({"unix:" + path, "unix:/nonexistent/x.sock"}, {}, {}));
  EXPECT_NE(::access(path.c_str(), F_OK), 0);
}

TEST(PidFile, NamesThisProcessAndGoesWithIt) {
  const ScratchDirectory scratch;
  const std::string path = scratch.path() + "/relayd.pid";
  {
    const auto file = PidFile::write(path);
    ASSERT_TRUE(file) << file.error().message;
    std::ifstream in(path);
    pid_t pid = 0;
    in >> pid;
    EXPECT_EQ(pid, ::getpid());
  }
  EXPECT_NE(::access(path.c_str(), F_OK), 0);
}

TEST(PidFile, SomebodyElsesIsLeftAlone) {
  const ScratchDirectory scratch;
  const std::string path = scratch.path() + "/relayd.pid";
  {
    const auto file = PidFile::write(path);
    ASSERT_TRUE(file);
    std::ofstream(path) << "1\n";
  }
  EXPECT_EQ(::access(path.c_str(), F_OK), 0);
}

TEST(PidFile, ErrorNamesTheFile) {
  const auto file = PidFile::write("/nonexistent/relayd.pid");
  ASSERT_FALSE(file);
  EXPECT_THAT(file.error().message, HasSubstr("/nonexistent/relayd.pid: No such file or directory (ENOENT)"));
}

TEST(DescriptorBudget, KeepsBackWhatARolloverNeedsAndNeverStarvesClients) {
  config::Config config;
  config.services.resize(1);
  config.services[0].listen = {":80"};
  EXPECT_GE(descriptors_for_clients(64, config, 1), 16U);
  EXPECT_LE(descriptors_for_clients(64, config, 1), 40U);
  EXPECT_GE(descriptors_for_clients(20000, config, 2), 19000U);
  EXPECT_GE(descriptors_for_clients(8, config, 64), 4U);
}

TEST(Journal, KeepsTheNewestInOrder) {
  ASSERT_TRUE(log::configure({.level = log::Level::kError, .format = log::Format::kText, .file = ""}));
  Journal journal;
  std::uint64_t followed = 0;
  journal.follow([&followed](const control::Event& e) { followed = e.sequence; });
  for (std::size_t i = 0; i < Journal::kKept + 10; ++i) journal.record("started", "again");
  const auto events = journal.recent();
  ASSERT_THAT(events, SizeIs(Journal::kKept));
  EXPECT_EQ(events.front().sequence, 11U);
  EXPECT_EQ(events.back().sequence, followed);
}

}  // namespace
}  // namespace relayd
