#include "proxy/backend/output_tail.h"

#include <unistd.h>

#include <cerrno>
#include <climits>

#include "proxy/base/write_now.h"

namespace relayd::backend {
namespace {

constexpr std::size_t kTail = 2048;            // bytes given by text()
constexpr std::size_t kChunk = PIPE_BUF;       // bytes of one read
constexpr std::size_t kMaxDrain = 256U << 10;  // bytes read at the process's end
constexpr int kChunksPerWakeUp = 16;
constexpr Duration kRetry{50};  // until the next look whether standard error takes anything again

}  // namespace

Result<std::unique_ptr<OutputTail>> OutputTail::create(Loop& loop, Descriptor pipe, int copy_to) {
  std::unique_ptr<OutputTail> result(new OutputTail(loop, std::move(pipe), copy_to));
  if (!result->pipe_) return result;
  if (auto done = set_nonblocking(result->pipe_.get(), true); !done) return std::unexpected(done.error());
  OutputTail* const self = result.get();
  auto watch = Poll::create(loop, self->pipe_.get(), UV_READABLE, [self](int) { self->on_readable(); });
  if (!watch) return std::unexpected(watch.error());
  result->watch_ = std::move(*watch);
  return result;
}

void OutputTail::restore(std::string tail, std::string pending) {
  tail_ = std::move(tail);
  pending_ = std::move(pending);
  if (!pending_.empty()) pause();
}

// One read into the tail and the pending copy. False where there is nothing (more) to read now.
bool OutputTail::read_some() {
  if (!pipe_) return false;
  char buffer[kChunk];
  ssize_t got = 0;
  do {
    got = ::read(pipe_.get(), buffer, sizeof buffer);
  } while (got < 0 && errno == EINTR);
  if (got > 0) {
    keep(std::string_view(buffer, static_cast<std::size_t>(got)));
    return true;
  }
  if (got == 0 || errno != EAGAIN) {  // every writer has closed it
    watch_.reset();
    pipe_.reset();
  }
  return false;
}

void OutputTail::keep(std::string_view data) {
  tail_.append(data);
  if (tail_.size() > 2 * kTail) tail_.erase(0, tail_.size() - kTail - 1);
  if (copy_to_ >= 0) pending_.append(data);
}

// True where everything has been passed on.
bool OutputTail::flush() {
  while (!pending_.empty()) {
    const ssize_t sent = write_now(copy_to_, pending_);
    if (sent < 0 && errno == EINTR) continue;
    if (sent < 0 && errno == EAGAIN) return false;
    if (sent < 0) {  // standard error is gone for good: the tail is still kept
      copy_to_ = -1;
      pending_.clear();
      break;
    }
    pending_.erase(0, static_cast<std::size_t>(sent));
  }
  return true;
}

void OutputTail::on_readable() {
  for (int i = 0; i < kChunksPerWakeUp; ++i) {
    if (!flush()) return pause();
    if (!read_some()) return;
  }
  if (!flush()) pause();
}

void OutputTail::pause() {
  if (watch_ != nullptr) watch_->stop();
  again_.start(kRetry, [this] {
    if (watch_ != nullptr) watch_->set_events(UV_READABLE);
    on_readable();
  });
}

void OutputTail::drain() {
  for (std::size_t read = 0; read < kMaxDrain && read_some(); read += kChunk) {
  }
  flush();  // what does not go now is lost to the log; the tail has it
}

std::string OutputTail::text() const {
  std::string_view text = tail_;
  if (text.size() > kTail) {
    text.remove_prefix(text.size() - kTail - 1);
    const std::size_t line_end = text.find('\n');
    text.remove_prefix(line_end != std::string_view::npos && line_end + 1 < text.size() ? line_end + 1 : 1);
  }
  while (!text.empty() && (text.back() == '\n' || text.back() == '\r')) text.remove_suffix(1);
  std::string out(text);
  for (char& c : out) {
    const auto byte = static_cast<unsigned char>(c);
    if ((byte < 0x20 && c != '\n' && c != '\t') || byte == 0x7f) c = '?';
  }
  return out;
}

}  // namespace relayd::backend
