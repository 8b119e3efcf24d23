#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>

#include <cerrno>
#include <optional>
#include <tuple>

#include "proxy/backend/probe.h"
#include "proxy/base/descriptor.h"
#include "proxy/config/loader.h"

namespace relayd::backend {
namespace {

constexpr Duration kLinger{1000};             // for the other side to close after us
constexpr Duration kLook{10};                 // from one look at an accept queue to the next
constexpr std::size_t kMaxStatusLine = 1024;  // bytes
constexpr std::size_t kShown = 60;            // bytes of an answer that is not HTTP shown in the error

std::string printable(std::string_view text) {
  std::string out(text.substr(0, kShown));
  for (char& c : out) {
    const auto byte = static_cast<unsigned char>(c);
    if (byte < 0x20 || byte >= 0x7f) c = '?';
  }
  return out;
}

// Connects, asks (if there is anything to ask), tells the result, and closes politely: sends FIN, and reads
// on until the other side has closed too, because a close with unread data would send an RST.
class SocketProbe : public Probe {
 public:
  SocketProbe(Loop& loop, const SocketAddress& address, Duration timeout, std::string preamble)
      : loop_(loop),
        address_(address),
        timeout_(timeout),
        preamble_(std::move(preamble)),
        timer_(loop),
        look_(loop) {}

  void start(Done done) override {
    done_ = std::move(done);
    timer_.start(timeout_, [this] {
      finish(fail(what() + ": no answer within " + config::format_duration(timeout_), ETIMEDOUT));
    });
    socket_.reset(::socket(address_.family(), SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    if (!socket_) return finish_soon(errno);
    if (::connect(socket_.get(), address_.get(), address_.length()) != 0 && errno != EINPROGRESS) {
      return finish_soon(errno);
    }
    auto watch = Poll::create(loop_, socket_.get(), UV_WRITABLE,
                              [this](int) { connected_ ? on_readable() : on_connected(); });
    if (!watch) return finish_soon(watch.error().code);
    watch_ = std::move(*watch);
  }

 protected:
  // What is being asked, for messages.
  virtual std::string what() const { return "connect " + name(); }
  // The request; empty: a connection is enough.
  virtual std::string request() const { return ""; }
  // Without a request: whether the app has got the connection.
  virtual bool is_taken() const { return true; }
  // Looks at what has come so far; nothing as long as that is not enough.
  virtual std::optional<Result<void>> judge(std::string_view) { return std::nullopt; }

  std::string name() const { return address_.to_string(); }
  const SocketAddress& address() const { return address_; }

 private:
  void finish_soon(int code) {
    timer_.start(Duration::zero(),
                 [this, code] { finish(std::unexpected(errno_error("connect " + name(), code))); });
  }

  // Calls back last: `this` may be gone afterwards.
  void finish(Result<void> result) {
    look_.stop();
    connected_ ? linger() : close();
    const Done done = std::move(done_);
    if (done) done(std::move(result));
  }

  void linger() {
    ::shutdown(socket_.get(), SHUT_WR);
    lingering_ = true;
    watch_->set_events(UV_READABLE);
    timer_.start(kLinger, [this] { close(); });
  }

  void close() {
    timer_.stop();
    watch_.reset();
    socket_.reset();
  }

  void on_connected() {
    int code = 0;
    socklen_t size = sizeof code;
    ::getsockopt(socket_.get(), SOL_SOCKET, SO_ERROR, &code, &size);
    if (code != 0) return finish(std::unexpected(errno_error("connect " + name(), code)));
    // With nobody listening on an ephemeral port, TCP may connect to itself (simultaneous open).
    if (const auto local = local_address(socket_.get()); !address_.is_unix() && local && *local == address_) {
      return finish(std::unexpected(errno_error("connect " + name(), ECONNREFUSED)));
    }
    connected_ = true;
    const std::string asked = request();
    const std::string text = preamble_ + asked;
    if (asked.empty()) {
      if (!text.empty()) std::ignore = ::send(socket_.get(), text.data(), text.size(), MSG_NOSIGNAL);
      watch_->set_events(UV_READABLE);
      return wait_until_taken();
    }
    const ssize_t sent = ::send(socket_.get(), text.data(), text.size(), MSG_NOSIGNAL);
    if (sent < 0) return finish(std::unexpected(errno_error(what(), errno)));
    if (static_cast<std::size_t>(sent) != text.size())
      return finish(fail(what() + ": the request is not taken whole"));
    watch_->set_events(UV_READABLE);
  }

  void wait_until_taken() {
    if (is_taken()) return finish({});
    look_.start(kLook, [this] { wait_until_taken(); });
  }

  void on_readable() {
    char buffer[4096];
    const ssize_t got = ::recv(socket_.get(), buffer, sizeof buffer, 0);
    const int code = errno;
    if (got < 0 && (code == EAGAIN || code == EINTR)) return;
    if (lingering_) {
      if (got <= 0) close();
      return;
    }
    if (request().empty()) return finish({});  // whatever the app does to it, it has got it
    if (got < 0) return finish(std::unexpected(errno_error(what(), code)));
    if (got == 0) return finish(fail(what() + ": the connection was closed before an answer came"));
    answer_.append(buffer, static_cast<std::size_t>(got));
    if (auto verdict = judge(answer_)) finish(std::move(*verdict));
  }

  Loop& loop_;
  const SocketAddress address_;
  const Duration timeout_;
  const std::string preamble_;
  Done done_;
  Descriptor socket_;
  std::unique_ptr<Poll> watch_;
  Timer timer_;
  Timer look_;
  std::string answer_;
  bool connected_ = false;
  bool lingering_ = false;
};

class AcceptProbe final : public SocketProbe {
 public:
  AcceptProbe(Loop& loop, const SocketAddress& address, int listening, Duration timeout, std::string preamble)
      : SocketProbe(loop, address, timeout, std::move(preamble)), listening_(listening) {}

 private:
  std::string what() const override { return "connect " + name() + ", to be accepted by the app"; }

  // Of a listening socket, TCP_INFO tells the connections that wait to be accepted as tcpi_unacked.
  bool is_taken() const override {
    tcp_info info{};
    socklen_t size = sizeof info;
    return ::getsockopt(listening_, IPPROTO_TCP, TCP_INFO, &info, &size) != 0 || info.tcpi_unacked == 0;
  }

  const int listening_;
};

class HttpProbe final : public SocketProbe {
 public:
  HttpProbe(Loop& loop, const SocketAddress& address, std::string path, int bad_from, Duration timeout,
            std::string preamble)
      : SocketProbe(loop, address, timeout, std::move(preamble)),
        path_(std::move(path)),
        bad_from_(bad_from) {}

 private:
  std::string what() const override { return "GET " + path_; }

  std::string request() const override {
    const std::string host = address().is_unix() ? "localhost" : name();
    return "GET " + path_ + " HTTP/1.1\r\nHost: " + host +
           "\r\nUser-Agent: relayd\r\nAccept: */*\r\nConnection: close\r\n\r\n";
  }

  std::optional<Result<void>> judge(std::string_view answer) override {
    const std::size_t end = answer.find('\n');
    if (end == std::string_view::npos && answer.size() < kMaxStatusLine) return std::nullopt;
    std::string_view line = answer.substr(0, end);
    if (line.ends_with('\r')) line.remove_suffix(1);
    const auto status = parse_status_line(line);
    if (!status) return fail(what() + ": " + status.error().message);
    if (status->code >= 200 && status->code < bad_from_) return Result<void>{};
    const bool redirect = status->code >= 300 && status->code < 400;
    return fail(what() + ": " + status->text +
                (redirect ? " (a 2xx is needed; redirects are not followed)" : ""));
  }

  const std::string path_;
  const int bad_from_;
};

}  // namespace

Result<HttpStatus> parse_status_line(std::string_view line) {
  const auto is_digit = [](char c) { return c >= '0' && c <= '9'; };
  // "HTTP/1.1 200 OK": the reason may be missing, and its space too.
  const bool valid = line.size() >= 12 && line.starts_with("HTTP/1.") && is_digit(line[7]) &&
                     line[8] == ' ' && is_digit(line[9]) && is_digit(line[10]) && is_digit(line[11]) &&
                     (line.size() == 12 || line[12] == ' ');
  if (!valid) return fail("the answer is not HTTP/1: '" + printable(line) + "'");
  HttpStatus status;
  status.code = (line[9] - '0') * 100 + (line[10] - '0') * 10 + (line[11] - '0');
  status.text = printable(line.substr(9));
  return status;
}

std::unique_ptr<Probe> make_tcp_probe(Loop& loop, const SocketAddress& address, Duration timeout,
                                      std::string preamble) {
  return std::make_unique<SocketProbe>(loop, address, timeout, std::move(preamble));
}

std::unique_ptr<Probe> make_accept_probe(Loop& loop, const SocketAddress& address, int listening,
                                         Duration timeout, std::string preamble) {
  return std::make_unique<AcceptProbe>(loop, address, listening, timeout, std::move(preamble));
}

std::unique_ptr<Probe> make_http_probe(Loop& loop, const SocketAddress& address, std::string path,
                                       int bad_from, Duration timeout, std::string preamble) {
  return std::make_unique<HttpProbe>(loop, address, std::move(path), bad_from, timeout, std::move(preamble));
}

}  // namespace relayd::backend
