#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "tests/load/client/options.h"

namespace relayd::load {

// What became of a request. kAnswered is the only good end.
enum class Ending {
  kAnswered,
  kRefused,
  kReset,
  kTruncated,
  kTimedOut,
  kBadStatus,
  kBadBody,
  kClosedEarly,
  kClientError
};

// What a good answer said of itself; empty or 0 where it did not.
struct AnswerFacts {
  std::string generation;
  std::string instance;
  std::uint64_t accepted = 0;
};

// One request and its answer: what to send, and whether what came back belongs to it. Knows no socket.
class Exchange {
 public:
  // `id` is unique in the run. `with_body`: http only.
  Exchange(const Options& options, std::string id, bool with_body);

  // Sends this first; once, before anything was sent.
  void put_in_front(const std::string& preface) { to_send_.insert(0, preface); }
  // What the answer's X-Client must say, as Options::client_check asks: "address:port".
  void expect_client(const std::string& client) { client_ = client; }

  const std::string& to_send() const { return to_send_; }
  // Takes more of the answer. True once it is whole or known to be bad; ending() then says which.
  bool receive(std::string_view bytes);
  // The server has ended the connection: what that means at this point.
  Ending ended_by_close() const { return received_.empty() ? Ending::kClosedEarly : Ending::kTruncated; }
  bool anything_received() const { return !received_.empty(); }

  Ending ending() const { return ending_; }
  const std::string& complaint() const { return complaint_; }  // for kBadStatus, kBadBody, kClientError
  const AnswerFacts& facts() const { return facts_; }
  // The server said that it will close after this answer.
  bool server_closes() const { return server_closes_; }

 private:
  void build_http(bool with_body);
  bool receive_http();
  bool receive_exactly(const std::string& expected);
  bool check_http(std::string_view head);
  bool check_client(std::string_view head);
  bool end(Ending ending, std::string complaint);

  const Options& options_;
  const std::string id_;
  std::string to_send_;
  std::string received_;
  std::string expected_length_;  // of the body that was sent, as the answer should report it
  std::string expected_crc_;
  std::string client_;
  Ending ending_ = Ending::kAnswered;
  std::string complaint_;
  AnswerFacts facts_;
  bool server_closes_ = false;
};

}  // namespace relayd::load
