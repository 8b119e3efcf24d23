#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "control/server/limits.h"
#include "control/server/peer.h"
#include "control/server/record.h"
#include "proxy/base/descriptor.h"
#include "proxy/base/loop.h"

namespace relayd::control {

// One connection to the control socket: cuts its input into lines, keeps its unsent output within bounds, and
// knows which of its requests have no answer yet. It never destroys itself: it dies (closes to the world),
// tells its owner, and is buried by it later, so that any callback may send to it.
class Client {
 public:
  struct Callbacks {
    std::function<void(Client&, std::string_view)> line;
    std::function<void(Client&)> died;  // once; the client must outlive this call
  };
  // `limits` must outlive the client. Fails where the descriptor cannot be watched.
  static Result<std::unique_ptr<Client>> create(Loop& loop, Descriptor fd, Peer peer, std::uint64_t id,
                                                const Limits& limits, Callbacks callbacks);
  // One that was written down goes on where it was; until wake() it neither reads nor sends, and what is sent
  // to it waits. The record's descriptor is `fd` by now.
  static Result<std::unique_ptr<Client>> restore(Loop& loop, Descriptor fd, Peer peer, ClientRecord record,
                                                 const Limits& limits, Callbacks callbacks);
  void wake();
  // After wake(): acts upon what was received before, and reads what comes.
  void read_on();
  // What restore() needs. Also right while one of its requests is being carried out.
  ClientRecord save() const;

  std::uint64_t id() const { return id_; }
  const Peer& peer() const { return peer_; }
  bool dead() const { return dead_; }

  // Sends the line, or as much as goes and the rest as soon as it can. With more than the limit already
  // unsent the client dies instead.
  void send(std::string_view line);
  // Dies once what is unsent has left; reads nothing from here on.
  void end_after_flush();

  // A request without an answer has a token.
  struct Outstanding {
    std::string id;    // as JSON text; empty: a notification
    std::string line;  // the whole of it
  };
  std::uint64_t begin(std::string request_id, std::string line);
  // The answer to it. Unknown tokens are ignored: the request was answered before.
  void answer(std::uint64_t token, std::string_view line);
  const std::map<std::uint64_t, Outstanding>& requests() const { return outstanding_; }
  std::size_t outstanding_bytes() const { return outstanding_bytes_; }

  // Which service's events it follows (empty: all), if it follows.
  std::optional<std::string> following;

  // For the end of the server: what poll(2) needs, and one more attempt.
  int fd() const { return fd_.get(); }
  bool unsent() const { return !dead_ && sent_ < output_.size(); }
  void flush();

 private:
  Client(Loop& loop, Descriptor fd, Peer peer, std::uint64_t id, const Limits& limits, Callbacks callbacks);
  void on_ready(int events);
  void receive();
  void at_end_of_input();
  void take_lines();
  void set_last_words();
  void forget_requests();
  void complain(std::string_view why);
  bool finished() const;
  void watch();
  void die();

  // Constant after construction.
  const Descriptor fd_;
  const Peer peer_;
  const std::uint64_t id_;
  const Limits& limits_;
  const Callbacks callbacks_;

  std::unique_ptr<Poll> poll_;
  Timer half_message_;
  std::string input_;
  std::size_t taken_ = 0;  // of input_: acted upon, while taking_lines_
  std::string output_;
  std::size_t sent_ = 0;  // of output_
  std::uint64_t next_token_ = 1;
  std::map<std::uint64_t, Outstanding> outstanding_;
  std::size_t outstanding_bytes_ = 0;  // of their lines
  int watched_ = UV_READABLE;          // what poll_ watches for
  bool lines_waiting_ = false;         // whole lines in input_, kept back until output has left
  bool skipping_ = false;              // the rest of a line that was too long
  bool input_ended_ = false;           // the peer has shut down its side, or nothing more is wanted from it
  bool ending_ = false;                // end_after_flush()
  bool asleep_ = false;                // restored, and not woken yet
  bool taking_lines_ = false;          // take_lines() is on the stack
  bool dead_ = false;
};

}  // namespace relayd::control
