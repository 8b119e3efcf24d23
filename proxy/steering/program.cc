#include "proxy/steering/program.h"

#include <netinet/in.h>
#include <sys/socket.h>

#include <cstddef>

namespace relayd::steering {
namespace {

using Register = std::uint8_t;
constexpr Register kResult = BPF_REG_0;
constexpr Register kFirst = BPF_REG_1;  // arguments of a call; it destroys them
constexpr Register kSecond = BPF_REG_2;
constexpr Register kThird = BPF_REG_3;
constexpr Register kContext = BPF_REG_6;  // 6 to 9 outlive calls
constexpr Register kRow = BPF_REG_7;
constexpr Register kCount = BPF_REG_8;
constexpr Register kStart = BPF_REG_9;
constexpr Register kFrame = BPF_REG_10;

// Places in the frame. The family stays readable in the key until the end.
constexpr auto kKeyAt = static_cast<std::int16_t>(-static_cast<int>(sizeof(AddressKey)));
constexpr auto kFamilyAt = static_cast<std::int16_t>(kKeyAt + static_cast<int>(offsetof(AddressKey, family)));
constexpr auto kPortAt = static_cast<std::int16_t>(kKeyAt + static_cast<int>(offsetof(AddressKey, port)));
constexpr auto kAddressAt =
    static_cast<std::int16_t>(kKeyAt + static_cast<int>(offsetof(AddressKey, address)));
constexpr auto kIndexAt = static_cast<std::int16_t>(kKeyAt - 8);

constexpr bpf_insn instruction(int code, Register to, Register from, std::int16_t offset,
                               std::int32_t value) {
  return {.code = static_cast<__u8>(code), .dst_reg = to, .src_reg = from, .off = offset, .imm = value};
}
constexpr bpf_insn set(Register to, std::int32_t value) {
  return instruction(BPF_ALU64 | BPF_MOV | BPF_K, to, 0, 0, value);
}
constexpr bpf_insn copy(Register to, Register from) {
  return instruction(BPF_ALU64 | BPF_MOV | BPF_X, to, from, 0, 0);
}
constexpr bpf_insn add(Register to, std::int32_t value) {
  return instruction(BPF_ALU64 | BPF_ADD | BPF_K, to, 0, 0, value);
}
constexpr bpf_insn add_register(Register to, Register from) {
  return instruction(BPF_ALU64 | BPF_ADD | BPF_X, to, from, 0, 0);
}
constexpr bpf_insn shift_right(Register to, std::int32_t bits) {
  return instruction(BPF_ALU64 | BPF_RSH | BPF_K, to, 0, 0, bits);
}
constexpr bpf_insn mask(Register to, std::int32_t bits) {
  return instruction(BPF_ALU64 | BPF_AND | BPF_K, to, 0, 0, bits);
}
constexpr bpf_insn remainder32(Register to, Register by) {  // clears the upper half
  return instruction(BPF_ALU | BPF_MOD | BPF_X, to, by, 0, 0);
}
// `size`: BPF_W (4 bytes), BPF_DW (8).
constexpr bpf_insn load(int size, Register to, Register from, std::size_t offset) {
  return instruction(BPF_LDX | BPF_MEM | size, to, from, static_cast<std::int16_t>(offset), 0);
}
constexpr bpf_insn load_frame(int size, Register to, std::int16_t offset) {
  return instruction(BPF_LDX | BPF_MEM | size, to, kFrame, offset, 0);
}
constexpr bpf_insn store_frame(int size, std::int16_t offset, Register from) {
  return instruction(BPF_STX | BPF_MEM | size, kFrame, from, offset, 0);
}
constexpr bpf_insn store_frame_zero(int size, std::int16_t offset) {
  return instruction(BPF_ST | BPF_MEM | size, kFrame, 0, offset, 0);
}
constexpr bpf_insn call(bpf_func_id function) { return instruction(BPF_JMP | BPF_CALL, 0, 0, 0, function); }
constexpr bpf_insn leave() { return instruction(BPF_JMP | BPF_EXIT, 0, 0, 0, 0); }

// Jumps go forward to labels, each of which is placed once.
class Text {
 public:
  using Label = std::vector<std::size_t>;  // the jumps that go there

  void operator()(const bpf_insn& next) { text_.push_back(next); }
  void jump_if(int condition, Register one, std::int32_t value, Label& to) {
    to.push_back(text_.size());
    text_.push_back(instruction(BPF_JMP | condition | BPF_K, one, 0, 0, value));
  }
  void jump(Label& to) {
    to.push_back(text_.size());
    text_.push_back(instruction(BPF_JMP | BPF_JA, 0, 0, 0, 0));
  }
  void place(const Label& label) {
    for (const std::size_t jump : label) text_[jump].off = static_cast<std::int16_t>(text_.size() - jump - 1);
  }
  // Leaves a pointer to the value of the key at `key`, or null, in kResult.
  void look_up(int map, std::int16_t key) {
    text_.push_back(instruction(BPF_LD | BPF_DW | BPF_IMM, kFirst, BPF_PSEUDO_MAP_FD, 0, map));
    text_.push_back(instruction(0, 0, 0, 0, 0));  // the upper half of the 64 bits
    text_.push_back(copy(kSecond, kFrame));
    text_.push_back(add(kSecond, key));
    text_.push_back(call(BPF_FUNC_map_lookup_elem));
  }
  std::vector<bpf_insn> take() { return std::move(text_); }

 private:
  std::vector<bpf_insn> text_;
};

// Fills the key; anything but TCP over IPv4 and IPv6 goes to `pass`.
void make_key(Text& text, Text::Label& pass) {
  Text::Label ipv6, made;
  text(load(BPF_W, kFirst, kContext, offsetof(bpf_sk_lookup, protocol)));
  text.jump_if(BPF_JNE, kFirst, IPPROTO_TCP, pass);
  text(load(BPF_W, kFirst, kContext, offsetof(bpf_sk_lookup, local_port)));
  text(store_frame(BPF_W, kPortAt, kFirst));
  text(store_frame_zero(BPF_DW, kAddressAt));
  text(store_frame_zero(BPF_DW, kAddressAt + 8));
  text(load(BPF_W, kFirst, kContext, offsetof(bpf_sk_lookup, family)));
  text(store_frame(BPF_W, kFamilyAt, kFirst));
  text.jump_if(BPF_JEQ, kFirst, AF_INET6, ipv6);
  text.jump_if(BPF_JNE, kFirst, AF_INET, pass);
  text(load(BPF_W, kSecond, kContext, offsetof(bpf_sk_lookup, local_ip4)));
  text(store_frame(BPF_W, kAddressAt, kSecond));
  text.jump(made);
  text.place(ipv6);
  for (std::int16_t word = 0; word < 4; ++word) {
    const auto bytes = static_cast<std::int16_t>(word * 4);
    text(
        load(BPF_W, kSecond, kContext, offsetof(bpf_sk_lookup, local_ip6) + static_cast<std::size_t>(bytes)));
    text(store_frame(BPF_W, static_cast<std::int16_t>(kAddressAt + bytes), kSecond));
  }
  text.place(made);
}

// Leaves the first index of the family's part of kRow in kStart and its length in kCount.
void split_row(Text& text) {
  Text::Label ipv6, done;
  text(copy(kStart, kRow));
  text(mask(kStart, 0xffff));
  text(copy(kSecond, kRow));
  text(shift_right(kSecond, 16));
  text(mask(kSecond, 0xffff));  // ipv4_only
  text(copy(kCount, kRow));
  text(shift_right(kCount, 32));
  text(mask(kCount, 0xffff));  // both
  text(load_frame(BPF_W, kFirst, kFamilyAt));
  text.jump_if(BPF_JEQ, kFirst, AF_INET6, ipv6);
  text(add_register(kCount, kSecond));
  text.jump(done);
  text.place(ipv6);
  text(add_register(kStart, kSecond));
  text(copy(kThird, kRow));
  text(shift_right(kThird, 48));  // ipv6_only
  text(add_register(kCount, kThird));
  text.place(done);
}

}  // namespace

std::vector<bpf_insn> lookup_program(int addresses, int services, int sockets) {
  Text text;
  Text::Label found, refuse, pass;
  text(copy(kContext, kFirst));
  make_key(text, pass);
  text.look_up(addresses, kKeyAt);
  text.jump_if(BPF_JNE, kResult, 0, found);
  text(store_frame_zero(BPF_DW, kAddressAt));  // the wildcard
  text(store_frame_zero(BPF_DW, kAddressAt + 8));
  text.look_up(addresses, kKeyAt);
  text.jump_if(BPF_JEQ, kResult, 0, pass);
  text.place(found);

  text(load(BPF_W, kFirst, kResult, 0));
  text.jump_if(BPF_JEQ, kFirst, kRefused, refuse);
  text(store_frame(BPF_W, kIndexAt, kFirst));
  text.look_up(services, kIndexAt);
  text.jump_if(BPF_JEQ, kResult, 0, pass);
  text(load(BPF_DW, kRow, kResult, 0));  // whole: the switch is between two values of it
  split_row(text);
  text.jump_if(BPF_JEQ, kCount, 0, pass);

  text(call(BPF_FUNC_get_prandom_u32));
  text(remainder32(kResult, kCount));
  text(add_register(kResult, kStart));
  text(store_frame(BPF_W, kIndexAt, kResult));
  text.look_up(sockets, kIndexAt);
  text.jump_if(BPF_JEQ, kResult, 0, pass);
  text(copy(kRow, kResult));
  text(copy(kFirst, kContext));
  text(copy(kSecond, kResult));
  // The row has all members of a SO_REUSEPORT group, and none whose process has ended; the group itself may
  // have such a one.
  text(set(kThird, BPF_SK_LOOKUP_F_NO_REUSEPORT));
  text(call(BPF_FUNC_sk_assign));
  text(copy(kFirst, kRow));
  text(call(BPF_FUNC_sk_release));
  text.place(pass);
  text(set(kResult, SK_PASS));
  text(leave());
  text.place(refuse);
  text(set(kResult, SK_DROP));
  text(leave());
  return text.take();
}

}  // namespace relayd::steering
