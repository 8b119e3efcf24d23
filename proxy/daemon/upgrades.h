#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "proxy/base/loop.h"
#include "proxy/net/data_plane.h"
#include "proxy/upgrade/record.h"
#include "proxy/upgrade/rehearsal.h"

namespace relayd {

class Daemon;

// Replacing relayd's own executable while it runs: asked for as often as people like, done one after the
// other. Main thread.
//
//   asked --> rehearsal of the new one with a copy of the state --> workers halt, state written --> exec
//                  | will not do                                      | cannot            next image: done,
//                  or back
//                  '----------> failed: this one goes on <------------'
class Upgrades {
 public:
  struct Done {
    std::string from_version;
    std::string to_version;
    std::string binary;
    std::uint64_t connections = 0;  // that were kept
    std::int64_t silence_ms = 0;    // for so long no byte was relayed
  };
  using Answer = std::function<void(Result<Done>)>;

  Upgrades(Daemon& daemon, Loop& loop);

  // `answer` may be null. Where this image is replaced, the next one answers whoever has a ticket.
  void ask(upgrade::RequestedUpgrade request, Answer answer);
  // Whoever has asked a former image; false: nobody has by this ticket.
  bool attach(std::uint64_t ticket, Answer answer);
  // relayd is being stopped: those that have not come about are refused.
  void refuse_all();
  unsigned count() const { return count_; }  // of this process, that came about

  void save(upgrade::Record& record) const;
  // In the next image, or the former one again, which then has `failure`.
  void restore(const upgrade::Record& record, const std::optional<std::string>& failure);
  // The same, once the data plane works again.
  void end_silence();
  // The same, once all does: tells how it went, and goes on with the next one.
  void conclude(std::uint64_t connections);

 private:
  struct Request {
    upgrade::RequestedUpgrade what;
    Answer answer;
  };
  void begin_next();
  Result<void> open_images();
  void rehearse(net::PlaneRecord plane);
  void rehearsed(const upgrade::Rehearsal::Verdict& verdict);
  void transfer();
  Error hand_over();
  Result<std::vector<int>> write_state();
  void failed(const Error& error);
  void answer_first(const Result<Done>& result);

  Daemon& daemon_;
  Loop& loop_;
  std::string executable_;           // where the next one is looked for
  std::optional<unsigned> threads_;  // that the configuration asks for by now
  std::deque<Request> requests_;     // the first one is under way
  bool busy_ = false;
  unsigned count_ = 0;
  std::string binary_;  // of the request under way
  Descriptor image_;
  Descriptor former_;
  Descriptor memory_;
  std::uint32_t state_version_ = upgrade::kVersion;  // that the new one reads
  std::size_t state_size_ = 0;
  std::unique_ptr<upgrade::Rehearsal> rehearsal_;
  std::int64_t silent_since_ns_ = 0;
  int passes_ = 0;
  Timer timer_;
  // What the former image has begun.
  std::optional<Result<Done>> outcome_;
};

}  // namespace relayd
