#include <random>

#include "tests/control/restore_fixture.h"

// What a restored server makes of its record: the file, faults of every kind, and records of any moment.
namespace relayd::control {
namespace {

using testing::HasSubstr;

TEST_F(Restore, TheFileIsAdoptedAndRemovedAtTheEnd) {
  options_.mode = 0640;
  start();
  struct stat before {
  }, after{};
  ASSERT_EQ(::lstat(options_.socket_path.c_str(), &before), 0);
  const std::string path = options_.socket_path;
  ServerRecord record = forget_server();
  options_.socket_path = folder_ + "/elsewhere.sock";  // a configuration that counts at the next start
  restore(std::move(record));
  server_->resume();
  ASSERT_EQ(::lstat(path.c_str(), &after), 0);
  EXPECT_EQ(after.st_ino, before.st_ino);
  EXPECT_EQ(after.st_mode, before.st_mode);
  server_.reset();
  EXPECT_NE(::access(path.c_str(), F_OK), 0);
}

TEST_F(Restore, ARecordWithoutItsSocketIsAnErrorAndTakesNothing) {
  start();
  RawClient client(options_.socket_path);
  ASSERT_TRUE(wait_until([&] { return server_->save().clients.size() == 1; }));
  const ServerRecord good = forget_server();
  Descriptor file(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  Descriptor unbound(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  for (const int wrong : {-1, 1 << 20, file.get(), unbound.get(), good.clients.at(0).fd}) {
    ServerRecord record = good;
    record.fd = wrong;
    const auto server = Server::restore(loop_, options_, record, commands_);
    ASSERT_FALSE(server) << wrong;
    EXPECT_THAT(server.error().message, HasSubstr("control socket " + good.file.path));
  }
  ServerRecord elsewhere = good;
  elsewhere.file.path += "x";
  EXPECT_FALSE(Server::restore(loop_, options_, elsewhere, commands_));
  options_.group = "no-such-group-here";  // one that has gone since only keeps its members out
  restore(good);
  server_->resume();
  client.send(write_request(1, VersionCall{}));
  EXPECT_EQ(answered_id(client), 1u);
}

TEST_F(Restore, WhatIsWrongWithOneClientHarmsNoOther) {
  start();
  RawClient good(options_.socket_path), doubled(options_.socket_path);
  ASSERT_TRUE(wait_until([&] { return server_->save().clients.size() == 2; }));
  ServerRecord record = forget_server();
  Descriptor file(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const auto add = [&](std::uint64_t id, int fd) {
    ClientRecord client;
    client.id = id;
    client.fd = fd;
    record.clients.push_back(client);
  };
  add(10, -1);
  add(11, file.get());
  add(12, record.fd);
  add(13, record.clients[0].fd);
  record.clients[1].id = record.clients[0].id;
  record.clients[0].requests = {{3, "no JSON"},
                                {4, R"({"jsonrpc":"2.0","id":40,"method":"fly"})"},
                                {5, R"({"jsonrpc":"2.0","method":"fly"})"},
                                {6, R"({"jsonrpc":"2.0","id":60,"method":"version"})"}};
  record.next_client = 0;
  restore(record);
  EXPECT_EQ(server_->save().clients.size(), 1u);
  server_->resume();
  EXPECT_TRUE(wait_until([&] { return doubled.closed(); })) << "of two with one number the first stays";
  EXPECT_THAT(answer(good), HasSubstr("-32700"));
  const auto unknown = parse_message(answer(good));
  ASSERT_TRUE(unknown && unknown->failure);
  EXPECT_EQ(unknown->id, 40u);
  EXPECT_EQ(answered_id(good), 60u);
  EXPECT_NE(::fcntl(file.get(), F_GETFD), -1) << "what was no client is left alone";
  const ClientRecord now = only_client();
  EXPECT_EQ(now.next_token, 7u) << "no token comes twice";
  EXPECT_GT(server_->save().next_client, now.id);
}

// Its last answer comes while requests of its own still wait to be looked at.
TEST_F(Restore, AClientThatSaysNoMoreIsNotClosedBeforeAllThatItSaid) {
  start();
  RawClient client(options_.socket_path);
  ASSERT_TRUE(wait_until([&] { return server_->save().clients.size() == 1; }));
  ServerRecord record = forget_server();
  client.finish();
  record.clients.at(0).input_ended = true;
  record.clients[0].requests = {{1, R"({"jsonrpc":"2.0","id":1,"method":"reload"})"}};
  record.clients[0].input = write_request(2, VersionCall{});
  restore(std::move(record));
  server_->resume();
  EXPECT_EQ(answered_id(client), 1u);
  EXPECT_EQ(answered_id(client), 2u);
  EXPECT_TRUE(wait_until([&] { return client.closed(); }));
}

// Upgrades at moments that a seed chooses, under clients that write in pieces and read when they like.
TEST_F(Restore, AtAnyMomentEveryRequestIsAnsweredOnceAndInOrder) {
  constexpr std::uint64_t kRequests = 40;
  struct One {
    std::unique_ptr<RawClient> client;
    std::string rest;
    std::uint64_t answered = 0;
  };
  for (std::uint64_t seed = 1; seed <= 10; ++seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    start();
    std::vector<One> all(3);
    for (One& one : all) {
      one.client = std::make_unique<RawClient>(options_.socket_path);
      for (std::uint64_t id = 1; id <= kRequests; ++id) {
        one.rest +=
            random() % 3 == 0 ? write_request(id, ConnectionsCall{}) : write_request(id, ReloadCall{});
      }
    }
    int upgrades = 0;
    const auto step = [&] {
      commands_.entries.resize(200, {"web", 1, "127.0.0.1:4000", 1, 0, "relaying", 1, 1, 1, 1});
      One& writer = all[random() % all.size()];
      writer.rest.erase(0, writer.client->send(std::string_view(writer.rest).substr(0, random() % 200)));
      if (writer.rest.empty() && random() % 4 == 0) writer.client->finish();
      for (int turns = random() % 3; turns > 0; --turns) loop_.run_nowait();
      if (random() % 4 == 0) upgrade(), ++upgrades;
      One& reader = all[random() % all.size()];
      for (auto lines = random() % 8; lines > 0; --lines) {
        const auto line = reader.client->line();
        if (!line) break;
        const auto message = parse_message(*line);
        ASSERT_TRUE(message) << *line;
        ASSERT_EQ(message->id, ++reader.answered) << *line;
      }
    };
    const auto done = [](const One& one) { return one.answered == kRequests; };
    const TimePoint end = monotonic_now() + kPatience;
    while (!std::ranges::all_of(all, done) && !HasFatalFailure()) {
      ASSERT_LT(monotonic_now(), end);
      step();
    }
    EXPECT_GT(upgrades, 5);
    server_.reset();
  }
}

}  // namespace
}  // namespace relayd::control
