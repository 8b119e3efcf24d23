#include "proxy/base/runtime_directory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>

#include "tests/base/scratch_directory.h"

namespace relayd {
namespace {

using testing::HasSubstr;

class RuntimeDirectory : public testing::Test {
 protected:
  RuntimeDirectory() {
    std::filesystem::create_directory(root_ + "/xdg");
    std::filesystem::create_directory(root_ + "/tmp");
    places_.system = root_ + "/run-relayd";
    places_.shared = root_ + "/tmp";
  }
  static mode_t mode_of(const std::string& path) {
    struct stat info {};
    EXPECT_EQ(::lstat(path.c_str(), &info), 0) << path;
    return info.st_mode & 07777U;
  }

  ScratchDirectory scratch_;
  std::string root_ = scratch_.path();
  std::string own_ = root_ + "/tmp/relayd-" + std::to_string(::geteuid());
  RuntimePlaces places_;
};

TEST_F(RuntimeDirectory, OrderOfPlaces) {
  EXPECT_EQ(runtime_directory_in(places_, true).value(), own_);
  EXPECT_EQ(mode_of(own_), 0700U);
  places_.xdg = root_ + "/xdg";
  EXPECT_EQ(runtime_directory_in(places_, true).value(), root_ + "/xdg/relayd");
  EXPECT_EQ(mode_of(root_ + "/xdg/relayd"), 0700U);
  places_.root = true;
  EXPECT_EQ(runtime_directory_in(places_, true).value(), places_.system);
  places_.systemd = root_ + "/first:" + root_ + "/second";
  EXPECT_EQ(runtime_directory_in(places_, true).value(), root_ + "/first");
  EXPECT_EQ(runtime_directory_in(places_, true).value(), root_ + "/first");  // it exists now: the same
}

TEST_F(RuntimeDirectory, IgnoresAnXdgFolderThatIsMissingOrRelative) {
  places_.xdg = root_ + "/none";
  EXPECT_EQ(runtime_directory_in(places_, true).value(), own_);
  places_.xdg = "xdg";
  EXPECT_EQ(runtime_directory_in(places_, true).value(), own_);
}

TEST_F(RuntimeDirectory, WithoutCreateNothingIsMade) {
  const auto missing = runtime_directory_in(places_, false);
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code, ENOENT);
  EXPECT_THAT(missing.error().message, HasSubstr("is relayd running?"));
  EXPECT_FALSE(std::filesystem::exists(own_));
  ASSERT_TRUE(runtime_directory_in(places_, true));
  EXPECT_EQ(runtime_directory_in(places_, false).value(), own_);
}

TEST_F(RuntimeDirectory, ClientFindsTheFolderThatHasASocket) {
  places_.xdg = root_ + "/xdg";
  ASSERT_TRUE(runtime_directory_in(places_, true));
  std::filesystem::create_directory(places_.system);
  std::ofstream(places_.system + "/relayd.sock");
  EXPECT_EQ(runtime_directory_in(places_, false).value(), places_.system);
  std::ofstream(root_ + "/xdg/relayd/relayd.sock");
  EXPECT_EQ(runtime_directory_in(places_, false).value(), root_ + "/xdg/relayd");
}

TEST_F(RuntimeDirectory, RefusesASymbolicLinkInTmp) {
  std::filesystem::create_directory(root_ + "/elsewhere");
  std::filesystem::create_directory_symlink(root_ + "/elsewhere", own_);
  for (const bool create : {true, false}) {
    const auto refused = runtime_directory_in(places_, create);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, ELOOP);
    EXPECT_THAT(refused.error().message, HasSubstr(own_));
  }
}

TEST_F(RuntimeDirectory, RefusesAFolderOpenToOthersInTmp) {
  std::filesystem::create_directory(own_);
  for (const mode_t mode : {0777U, 0750U, 0701U}) {
    ASSERT_EQ(::chmod(own_.c_str(), mode), 0);
    EXPECT_FALSE(runtime_directory_in(places_, true)) << std::oct << mode;
  }
  ASSERT_EQ(::chmod(own_.c_str(), 0700), 0);
  EXPECT_TRUE(runtime_directory_in(places_, true));
}

TEST_F(RuntimeDirectory, RefusesAFolderOfSomebodyElseInTmp) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can make a folder of somebody else";
  std::filesystem::create_directory(own_);
  ASSERT_EQ(::chmod(own_.c_str(), 0700), 0);
  ASSERT_EQ(::chown(own_.c_str(), 12345, 12345), 0);
  const auto refused = runtime_directory_in(places_, true);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, EPERM);
  // Nor does relayctl trust a socket in it; the system's own is taken instead.
  std::ofstream(own_ + "/relayd.sock");
  std::filesystem::create_directory(places_.system);
  std::ofstream(places_.system + "/relayd.sock");
  EXPECT_EQ(runtime_directory_in(places_, false).value(), places_.system);
}

TEST_F(RuntimeDirectory, RefusesAFile) {
  std::ofstream(own_) << "x";
  EXPECT_FALSE(runtime_directory_in(places_, true));
  places_.systemd = root_ + "/file";
  std::ofstream(places_.systemd) << "x";
  const auto refused = runtime_directory_in(places_, true);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ENOTDIR);
}

TEST_F(RuntimeDirectory, SaysWhatItCouldNotMake) {
  places_.systemd = root_ + "/none/relayd";
  const auto refused = runtime_directory_in(places_, true);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code, ENOENT);
  EXPECT_THAT(refused.error().message, HasSubstr("RUNTIME_DIRECTORY"));
}

}  // namespace
}  // namespace relayd
