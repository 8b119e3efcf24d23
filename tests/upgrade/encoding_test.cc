// What one relayd leaves to the next: it is read as it was written, also that of the version before, and what
// cannot be one is refused with a reason.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>
#include <random>
#include <sstream>

#include "proxy/upgrade/fields_daemon.h"
#include "tests/upgrade/sample.h"

namespace relayd::upgrade {

// Where the other archives are, so that the fields are found. It fills each field with something at random:
// so whatever has fields is filled.
class Filler {
 public:
  explicit Filler(std::uint64_t seed) : random_(seed) {}
  static constexpr bool kReads = true;
  std::uint32_t version() const { return kVersion; }
  const std::string& fault() const { return fault_; }
  void fail(const std::string&) {}

  template <Number T>
  void operator()(T& value) {
    value = static_cast<T>(random_());
  }
  void operator()(bool& value) { value = random_() % 2 == 0; }
  void operator()(std::string& value) {
    value.resize(random_() % 40);
    for (char& byte : value) byte = static_cast<char>(random_());
  }
  template <typename E>
  void choice(E& value, E last) {
    value = static_cast<E>(random_() % (static_cast<unsigned>(last) + 1));
  }
  void descriptor(int& fd) { fd = random_() % 3 == 0 ? -1 : ++last_descriptor_; }
  void raw(void* data, std::size_t size) {
    for (std::size_t i = 0; i < size; ++i) static_cast<char*>(data)[i] = static_cast<char>(random_());
  }
  void count(std::size_t& value) { value = random_() % 4; }
  void operator()(config::Service& service) {
    service = {};
    service.name = "s" + std::to_string(random_() % 3);
    service.backend.instances = 1 + static_cast<unsigned>(random_() % 5);
  }
  void operator()(config::Config& config) {
    config = {};
    config.threads = static_cast<unsigned>(random_() % 8);
    (*this)(config.services.emplace_back());
  }
  void address(SocketAddress& value) {
    value = SocketAddress::loopback(static_cast<std::uint16_t>(random_()));
  }
  int descriptors() const { return last_descriptor_; }

 private:
  std::mt19937_64 random_;
  std::string fault_;
  int last_descriptor_ = 2;
};

namespace test {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::SizeIs;

std::string written(Record& record) {
  Writer writer(kVersion);
  upgrade::field(writer, record);
  return writer.bytes();
}

TEST(State, WhateverIsWrittenIsReadAsItWas) {
  for (std::uint64_t seed = 1; seed <= 300; ++seed) {
    Filler filler(seed);
    Record record;
    upgrade::field(filler, record);
    const std::string bytes = written(record);
    Reader reader(bytes, kVersion);
    Record read;
    upgrade::field(reader, read);
    ASSERT_EQ(reader.fault(), "") << seed;
    ASSERT_TRUE(reader.at_end()) << seed;
    ASSERT_EQ(written(read), bytes) << seed;
    ASSERT_THAT(descriptors_of(record), SizeIs(filler.descriptors() - 2)) << seed;
  }
}

TEST(State, TheSampleIsOneAndComesBack) {
  const std::string bytes = encode(sample_record());
  const auto read = decode(bytes);
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_EQ(encode(*read), bytes);
  EXPECT_EQ(descriptors_of(*read), descriptors_of(sample_record()));
  EXPECT_THAT(descriptors_of(*read), Each(::testing::Ge(3)));
}

TEST(State, WhatIsCutAnywhereIsRefused) {
  const std::string bytes = encode(sample_record());
  for (std::size_t size = 0; size < bytes.size(); size += 1 + size / 200) {
    const auto read = decode(bytes.substr(0, size));
    ASSERT_FALSE(read) << size;
    ASSERT_THAT(read.error().message, HasSubstr("cannot be taken over: ")) << size;
  }
  EXPECT_FALSE(decode(bytes + "x"));
}

// Whatever is damaged is refused or is another state that can be written; nothing crashes (sanitizers watch).
TEST(State, WhatIsDamagedIsNotTrusted) {
  const std::string bytes = encode(sample_record());
  std::mt19937_64 random(7);
  int refused = 0;
  for (int i = 0; i < 3000; ++i) {
    std::string damaged = bytes;
    for (std::uint64_t flips = 1 + random() % 3; flips > 0; --flips)
      damaged[random() % damaged.size()] = static_cast<char>(random());
    const auto read = decode(damaged);
    if (read) {
      const auto again = decode(encode(*read));
      EXPECT_TRUE(again) << again.error().message;
    } else {
      ++refused;
    }
  }
  EXPECT_GT(refused, 500);
}

TEST(State, AnotherVersionIsNamed) {
  std::string bytes = encode(sample_record());
  const std::size_t place = std::string("relayd state\n").size();
  bytes[place] = static_cast<char>(kVersion + 1);
  const auto newer = decode(bytes);
  ASSERT_FALSE(newer);
  EXPECT_THAT(newer.error().message, HasSubstr("version " + std::to_string(kVersion + 1)));
  EXPECT_THAT(newer.error().message, HasSubstr("older than the one that runs"));
  bytes[place] = 0;
  const auto older = decode(bytes);
  ASSERT_FALSE(older);
  EXPECT_THAT(older.error().message, HasSubstr("version 0"));
}

// What a rule of its own says, one by one.
TEST(State, WhatCannotBeIsRefused) {
  using Break = void (*)(Record&);
  const std::pair<const char*, Break> cases[] = {
      {"one descriptor", [](Record& r) { r.upgrade.former = r.upgrade.image; }},
      {"no threads", [](Record& r) { r.plane.workers.clear(); }},
      {"one number", [](Record& r) { r.services[1].id = r.services[0].id; }},
      {"has a service that is not there",
       [](Record& r) {
         r.plane.services[0].id = 77;
         r.plane.workers = {{}};
       }},
      {"of no service", [](Record& r) { r.plane.workers[0].connections[0].connection.service = 9; }},
      {"two connections have one place",
       [](Record& r) { r.plane.workers[0].connections[0].index = r.plane.workers[0].connections[1].index; }},
      {"it has no place", [](Record& r) { r.plane.workers[0].connections[0].index = net::kNone; }},
      {"endpoint is unknown", [](Record& r) { r.plane.workers[0].connections[0].endpoint = 5; }},
      {"no client", [](Record& r) { r.plane.workers[0].connections[0].connection.fd[net::kClient] = -1; }},
      {"in no state",
       [](Record& r) { r.plane.workers[0].connections[0].connection.state = net::State::kClosed; }},
      {"backend is unknown", [](Record& r) { r.plane.workers[0].connections[0].endpoint = net::kNone; }},
      {"no backend",
       [](Record& r) { r.plane.workers[0].connections[3].connection.state = net::State::kConnecting; }},
      {"sent more bytes than it has parked",
       [](Record& r) { r.plane.workers[0].connections[0].parked[net::kBackend].begin = 100; }},
      {"parked more bytes than this relayd can",
       [](Record& r) { r.plane.workers[0].connections[0].parked[net::kBackend].bytes.resize(1 << 20); }},
      {"pipe without ends",
       [](Record& r) { r.plane.workers[0].connections[1].parked[net::kBackend].read = -1; }},
      {"longer than what it has parked",
       [](Record& r) { r.plane.workers[0].connections[2].exchange->exchange.request_end = 19; }},
      {"has no exchange",
       [](Record& r) { r.plane.workers[0].connections[3].connection.state = net::State::kReading; }},
      {"a walk is over no service", [](Record& r) { r.plane.workers[0].sweeps[0].service = 9; }},
      {"service web: the route names an instance", [](Record& r) { r.services[0].driver.slots.pop_back(); }},
      {"an instance has no definition",
       [](Record& r) {
         r.services[0].driver.definitions.pop_back();
         r.services[0].driver.next_number = 0;
       }},
      {"a definition is of no generation",
       [](Record& r) { r.services[0].driver.definitions[0].same_as = 2; }},
      {"next generation has no definition", [](Record& r) { r.services[0].driver.next_number = 9; }},
      {"neither a process nor a target",
       [](Record& r) { r.services[0].driver.slots[0].instance->process.reset(); }},
      {"two instances are in one place", [](Record& r) { r.services[0].driver.slots[2].index = 0; }},
  };
  for (const auto& [why, spoil] : cases) {
    Record record = sample_record();
    spoil(record);
    const auto read = decode(encode(record));
    ASSERT_FALSE(read) << why;
    EXPECT_THAT(read.error().message, HasSubstr(why));
  }
}

// As in a rehearsal: a client has gone from one thread, and the next one, of another thread, has its number.
TEST(State, OfPartsOfDifferentMomentsTheConnectionsInDoubtAreLeftOut) {
  Record record = sample_record();
  const std::size_t connections = record.plane.workers[0].connections.size();
  net::WorkerRecord other;
  other.connections.push_back(record.plane.workers[0].connections[1]);
  other.connections[0].connection.fd[net::kBackend] = 5000;
  record.plane.workers.push_back(other);
  record.plane.workers[0].connections[0].connection.fd[net::kClient] =
      record.services[0].driver.slots[0].instance->process->pidfd;
  ASSERT_FALSE(decode(encode(record)));
  leave_out_what_shares_descriptors(record);
  const auto read = decode(encode(record));
  ASSERT_TRUE(read) << read.error().message;
  EXPECT_THAT(read->plane.workers[0].connections, SizeIs(connections - 2));
  EXPECT_THAT(read->plane.workers[1].connections, SizeIs(0));
}

// Written by the relayd of each version, and kept: those that can be read are.
TEST(State, WrittenExamplesOfEachVersionAreRead) {
  for (std::uint32_t version = 1; version <= kVersion; ++version) {
    const std::string path = std::string(RELAYD_STATES) + "/version-" + std::to_string(version) + ".state";
    std::ifstream file(path, std::ios::binary);
    if (!file && version == kVersion) {  // a new one: written here, to be looked at and kept
      std::ofstream(path, std::ios::binary) << encode(sample_record());
      FAIL() << "no example of version " << version << " was kept; it is written now";
    }
    std::stringstream bytes;
    bytes << file.rdbuf();
    const auto read = decode(bytes.str());
    if (version < kOldestVersion) {
      EXPECT_FALSE(read) << version;
      continue;
    }
    ASSERT_TRUE(read) << version << ": " << read.error().message;
    // What is written for a relayd of that version is what one of that version would have written.
    EXPECT_EQ(bytes.str(), encode(sample_record(), version)) << "a change needs a version of its own";
  }
}

}  // namespace
}  // namespace test
}  // namespace relayd::upgrade
