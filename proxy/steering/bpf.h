#pragma once

#include <linux/bpf.h>

#include <cstdint>
#include <span>
#include <string>

#include "proxy/base/descriptor.h"

// bpf(2) as it is. Every call leaves its failure in errno (an invalid Descriptor, or false); descriptors are
// close-on-exec by the kernel's own doing.
namespace relayd::steering::bpf {

struct MapShape {
  bpf_map_type type = BPF_MAP_TYPE_UNSPEC;
  std::uint32_t key_bytes = 0;
  std::uint32_t value_bytes = 0;
  std::uint32_t entries = 0;
  std::uint32_t flags = 0;
};
// `name`: at most 15 letters, for bpftool.
Descriptor create_map(const char* name, const MapShape& shape);
// Replaces the value of a key that is there.
bool put(int map, const void* key, const void* value);
// ENOENT where the key is not there.
bool erase(int map, const void* key);

// An sk_lookup program. The verifier's words go to `log`, where given; that costs time and may fail by itself
// (ENOSPC).
Descriptor load_program(const char* name, std::span<const bpf_insn> text, std::string* log = nullptr);
// Attaches it to a network namespace, until the last descriptor of the link is closed.
Descriptor link_program(int program, int network_namespace);

}  // namespace relayd::steering::bpf
