#include "proxy/steering/bpf.h"

#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>

namespace relayd::steering::bpf {
namespace {

constexpr std::size_t kLogBytes = 64 * 1024;
// The program calls no helper that asks for the GPL.
constexpr char kLicense[] = "MIT";

// The kernel wants the bytes of the union that it does not know, or that a command does not use, to be zero.
bpf_attr zeroed() {
  bpf_attr attr;
  std::memset(&attr, 0, sizeof attr);
  return attr;
}

int call(bpf_cmd command, bpf_attr& attr) {
  return static_cast<int>(::syscall(SYS_bpf, command, &attr, sizeof attr));
}

std::uint64_t number(const void* pointer) { return reinterpret_cast<std::uintptr_t>(pointer); }

void copy_name(char (&to)[BPF_OBJ_NAME_LEN], const char* name) {
  std::memcpy(to, name, std::min(std::strlen(name), sizeof to - 1));
}

}  // namespace

Descriptor create_map(const char* name, const MapShape& shape) {
  bpf_attr attr = zeroed();
  attr.map_type = shape.type;
  attr.key_size = shape.key_bytes;
  attr.value_size = shape.value_bytes;
  attr.max_entries = shape.entries;
  attr.map_flags = shape.flags;
  copy_name(attr.map_name, name);
  return Descriptor(call(BPF_MAP_CREATE, attr));
}

bool put(int map, const void* key, const void* value) {
  bpf_attr attr = zeroed();
  attr.map_fd = static_cast<std::uint32_t>(map);
  attr.key = number(key);
  attr.value = number(value);
  attr.flags = BPF_ANY;
  return call(BPF_MAP_UPDATE_ELEM, attr) == 0;
}

bool erase(int map, const void* key) {
  bpf_attr attr = zeroed();
  attr.map_fd = static_cast<std::uint32_t>(map);
  attr.key = number(key);
  return call(BPF_MAP_DELETE_ELEM, attr) == 0;
}

Descriptor load_program(const char* name, std::span<const bpf_insn> text, std::string* log) {
  bpf_attr attr = zeroed();
  attr.prog_type = BPF_PROG_TYPE_SK_LOOKUP;
  attr.expected_attach_type = BPF_SK_LOOKUP;
  attr.insns = number(text.data());
  attr.insn_cnt = static_cast<std::uint32_t>(text.size());
  attr.license = number(kLicense);
  copy_name(attr.prog_name, name);
  if (log != nullptr) {
    log->assign(kLogBytes, '\0');
    attr.log_level = 1;
    attr.log_buf = number(log->data());
    attr.log_size = kLogBytes;
  }
  Descriptor program(call(BPF_PROG_LOAD, attr));
  if (log != nullptr) log->resize(std::strlen(log->c_str()));
  return program;
}

Descriptor link_program(int program, int network_namespace) {
  bpf_attr attr = zeroed();
  attr.link_create.prog_fd = static_cast<std::uint32_t>(program);
  attr.link_create.target_fd = static_cast<std::uint32_t>(network_namespace);
  attr.link_create.attach_type = BPF_SK_LOOKUP;
  return Descriptor(call(BPF_LINK_CREATE, attr));
}

}  // namespace relayd::steering::bpf
