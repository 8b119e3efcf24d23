#include <cerrno>

#include "proxy/backend/child.h"
#include "proxy/backend/output_tail.h"
#include "proxy/backend/probe.h"
#include "proxy/config/loader.h"

namespace relayd::backend {
namespace {

class CommandProbe final : public Probe {
 public:
  CommandProbe(Loop& loop, Keeper& keeper, Program program, Duration timeout)
      : loop_(loop), keeper_(keeper), program_(std::move(program)), timeout_(timeout), timer_(loop) {}

  void start(Done done) override {
    done_ = std::move(done);
    if (auto started = start_process(); !started) {
      timer_.start(Duration::zero(), [this, error = started.error()] { finish(std::unexpected(error)); });
      return;
    }
    timer_.start(timeout_, [this] {
      child_.reset();  // kills the whole group
      output_->drain();
      finish(fail(said("no result within " + config::format_duration(timeout_) + ", killed"), ETIMEDOUT));
    });
  }

 private:
  // Both of its streams are kept for the message; on success nobody wants to see them.
  Result<void> start_process() {
    auto pipe = make_pipe();
    if (!pipe) return std::unexpected(pipe.error());
    auto output = OutputTail::create(loop_, std::move(pipe->read), -1);
    if (!output) return std::unexpected(output.error());
    output_ = std::move(*output);
    auto child = Child::start(loop_, keeper_, program_, Streams{pipe->write.get(), pipe->write.get()},
                              [this](const ExitReport& report) { on_exit(report); });
    if (!child) return fail("check command: " + child.error().message, child.error().code);
    child_ = std::move(*child);
    return {};
  }

  void on_exit(const ExitReport& report) {
    output_->drain();
    if (!report.signaled && report.status == 0) return finish({});
    finish(fail(said(report.describe())));
  }

  std::string said(const std::string& what) const {
    const std::string output = output_->text();
    const std::size_t last = output.rfind('\n');
    const std::string line = last == std::string::npos ? output : output.substr(last + 1);
    return "check command " + program_.command[0] + ": " + what +
           (line.empty() ? "" : ": " + line.substr(0, 200));
  }

  void finish(Result<void> result) {
    timer_.stop();
    const Done done = std::move(done_);
    if (done) done(std::move(result));
  }

  Loop& loop_;
  Keeper& keeper_;
  const Program program_;
  const Duration timeout_;
  Done done_;
  std::unique_ptr<OutputTail> output_;
  std::unique_ptr<Child> child_;
  Timer timer_;
};

}  // namespace

std::unique_ptr<Probe> make_command_probe(Loop& loop, Keeper& keeper, Program program, Duration timeout) {
  return std::make_unique<CommandProbe>(loop, keeper, std::move(program), timeout);
}

}  // namespace relayd::backend
