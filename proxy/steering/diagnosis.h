#pragma once

#include <string>
#include <string_view>

#include "proxy/base/error.h"

namespace relayd::steering {

// A step towards an attached program, in their order.
enum class Step { kMap, kSocketMap, kProgram, kLink };

// Says what this kernel or this process lacks for steering, given the errno of the step that failed: an old
// kernel, missing capabilities, a filter of system calls. `log`: the verifier's words.
Error diagnose(Step step, int code, std::string_view log = {});

// What the calling process lacks, by capget(2): "CAP_BPF (or CAP_SYS_ADMIN) and CAP_NET_ADMIN"; empty:
// nothing.
std::string missing_capabilities();

}  // namespace relayd::steering
