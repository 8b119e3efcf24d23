#include "tests/net/script.h"

#include <algorithm>
#include <initializer_list>
#include <random>
#include <sstream>

#include "tests/net/support.h"

namespace relayd::net::test {
namespace {

constexpr std::size_t kKiB = 1024;
constexpr std::size_t kNoise = 1'048'573;

class Dice {
 public:
  explicit Dice(std::uint64_t seed) : random_(seed * 0x9e3779b97f4a7c15U + 1) {}
  std::uint64_t below(std::uint64_t end) { return random_() % end; }
  std::uint64_t between(std::uint64_t low, std::uint64_t high) { return low + below(high - low + 1); }
  bool chance(unsigned percent) { return below(100) < percent; }
  template <typename T>
  T one_of(std::initializer_list<T> choices) {
    return choices.begin()[below(choices.size())];
  }

 private:
  std::mt19937_64 random_;
};

enum class Flavour { kSmall, kMixed, kBulk };

std::size_t small_size(Dice& dice) {
  switch (dice.below(8)) {
    case 0:
    case 1:
      return 1;
    case 2:
    case 3:
    case 4:
      return dice.between(1, 300);
    case 5:
    case 6:
      return dice.between(300, 3000);
    default:
      return dice.between(1, 16 * kKiB);
  }
}

// Around the sizes at which a relay changes its ways: one buffer, two of them, pipes of several sizes.
std::size_t edge_size(Dice& dice) {
  const std::size_t size = dice.one_of({64, 64, 64, 128, 128, 192, 256}) * kKiB;
  return dice.chance(70) ? size - 2 + dice.below(5) : dice.between(32 * kKiB, size);
}

std::size_t bulk_size(Dice& dice) {
  if (dice.chance(30)) return dice.between(1, 2048 * kKiB);
  return dice.one_of({512, 1024, 1024, 1024, 2048, 4096}) * kKiB - 2 + dice.below(5);
}

std::size_t message_size(Dice& dice, Flavour flavour) {
  if (flavour == Flavour::kMixed && dice.chance(45)) return edge_size(dice);
  if (flavour == Flavour::kBulk && dice.chance(45)) return bulk_size(dice);
  return small_size(dice);
}

// Small pieces only of small messages: a system call a byte would be all that a large one tests.
std::size_t chunk_for(Dice& dice, std::uint64_t size) {
  if (size <= 2000 && dice.chance(15)) return dice.between(1, 16);
  if (size <= 40'000 && dice.chance(20)) return dice.between(100, 1500);
  return dice.one_of(
      {std::size_t{4096}, 16 * kKiB, 64 * kKiB - 1, 64 * kKiB, 64 * kKiB + 1, 256 * kKiB, 1024 * kKiB});
}

Gate gate_for(Dice& dice) {
  const std::uint64_t roll = dice.below(10);
  return roll < 5 ? Gate::kNone : roll < 7 ? Gate::kDrained : Gate::kAnswered;
}

// A window of less than a segment makes TCP wait for timers, so the smallest buffers are for little only.
int buffer_for(Dice& dice, std::uint64_t total) {
  if (dice.chance(60)) return 0;
  if (total <= 20'000) return dice.one_of({2048, 4096, 16'384});
  return dice.one_of({65'536, 131'072, 400'000});
}

Stream make_stream(Dice& dice, Flavour flavour) {
  Stream stream;
  const std::uint64_t most = flavour == Flavour::kSmall ? 16 : flavour == Flavour::kMixed ? 8 : 5;
  const std::uint64_t count = dice.chance(10) ? 0 : dice.between(1, most);
  std::uint64_t end = 0;
  for (std::uint64_t i = 0; i < count; ++i) {
    const std::size_t size = message_size(dice, flavour);
    end += size;
    stream.messages.push_back({.end = end, .chunk = chunk_for(dice, size), .gate = gate_for(dice)});
  }
  stream.noise = dice.below(kNoise);
  stream.read_chunk = chunk_for(dice, end);
  stream.send_buffer = buffer_for(dice, end);
  stream.receive_buffer = buffer_for(dice, end);
  const std::uint64_t stalls = end > 0 && dice.chance(35) ? dice.between(1, 3) : 0;
  for (std::uint64_t i = 0; i < stalls; ++i) {
    stream.stalls.push_back({.at = dice.below(end), .deep = dice.chance(40)});
  }
  std::ranges::sort(stream.stalls, {}, &Stall::at);
  return stream;
}

// One side may wait for the other's FIN, with its last messages or with its own FIN; not both sides.
void choose_order_of_ends(Dice& dice, Script& script) {
  if (dice.chance(40)) return;
  Stream& late = script.stream[dice.below(2)];
  late.end_gate = Gate::kPeerEnded;
  if (late.messages.empty() || dice.chance(40)) return;
  for (std::size_t i = dice.below(late.messages.size()); i < late.messages.size(); ++i) {
    late.messages[i].gate = i == 0 || dice.chance(50) ? Gate::kPeerEnded : Gate::kDrained;
  }
}

void choose_ending(Dice& dice, Script& script) {
  if (dice.chance(60)) return;
  script.breaker = static_cast<unsigned>(dice.below(2));
  const std::uint64_t own = script.stream[script.breaker].total();
  const std::uint64_t other = script.stream[1 - script.breaker].total();
  // A backend that goes before any byte was carried is replaced unseen by another connection: not played
  // here.
  if (own + other == 0) return;
  script.ending = dice.chance(50) ? Ending::kReset : Ending::kClose;
  script.breaks_ended = dice.chance(30);
  script.breaks_written = script.breaks_ended || dice.chance(30) ? own : dice.between(0, own);
  script.breaks_read = dice.chance(40) ? 0 : dice.between(0, other);
  script.survivor_writes_on = dice.chance(50);
}

const char* name_of(Gate gate) {
  switch (gate) {
    case Gate::kNone:
      return "";
    case Gate::kDrained:
      return " when drained";
    case Gate::kAnswered:
      return " when answered";
    case Gate::kPeerEnded:
      return " after the peer's FIN";
  }
  return "";
}

void describe_stream(std::ostream& out, const char* who, const Stream& stream) {
  out << "  " << who << " writes " << stream.total() << " bytes (SO_SNDBUF " << stream.send_buffer
      << ", read by " << stream.read_chunk << ", SO_RCVBUF " << stream.receive_buffer << "):";
  std::uint64_t begin = 0;
  for (const Message& message : stream.messages) {
    out << " [" << message.end - begin << " by " << message.chunk << name_of(message.gate) << "]";
    begin = message.end;
  }
  out << "; FIN" << name_of(stream.end_gate);
  for (const Stall& stall : stream.stalls) {
    out << "; its reader stops at " << stall.at << (stall.deep ? " for long" : "");
  }
  out << "\n";
}

}  // namespace

Script make_script(std::uint64_t seed) {
  Dice dice(seed);
  Script script;
  script.seed = seed;
  const std::uint64_t roll = dice.below(100);
  const Flavour flavour = roll < 70 ? Flavour::kSmall : roll < 94 ? Flavour::kMixed : Flavour::kBulk;
  for (const unsigned from : {kFromClient, kFromBackend}) {
    const bool as_said = flavour != Flavour::kBulk || dice.chance(60);
    script.stream[from] = make_stream(dice, as_said ? flavour : Flavour::kSmall);
  }
  choose_order_of_ends(dice, script);
  choose_ending(dice, script);
  return script;
}

std::string describe(const Script& script) {
  std::ostringstream out;
  out << "script of seed " << script.seed << "\n";
  describe_stream(out, "client", script.stream[kFromClient]);
  describe_stream(out, "backend", script.stream[kFromBackend]);
  if (script.ending != Ending::kOrderly) {
    out << "  " << (script.breaker == kFromClient ? "client" : "backend")
        << (script.ending == Ending::kReset ? " resets" : " closes") << " when it has written "
        << script.breaks_written << " and read " << script.breaks_read
        << (script.breaks_ended ? " and sent FIN" : "") << "; the other side "
        << (script.survivor_writes_on ? "writes on" : "closes too") << "\n";
  }
  return out.str();
}

std::string_view noise_at(std::uint64_t position, std::size_t most) {
  static const std::string kBytes = pattern(kNoise, 11);
  const std::size_t at = position % kNoise;
  return std::string_view(kBytes).substr(at, most);
}

}  // namespace relayd::net::test
