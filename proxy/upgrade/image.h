#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "proxy/base/descriptor.h"
#include "proxy/base/error.h"

// Executables by descriptor, so that what was rehearsed is what is executed, whatever is put at its path
// meanwhile; and the memory in which the state goes from one to the next.
namespace relayd::upgrade {

// Where relayd's executable is looked for when it is upgraded: the path that it was started by, with whatever
// symbolic links are in it, or else where the executable that runs is. After set_arguments().
std::string own_path();
// The one that runs, also where its file has been replaced or removed.
Result<Descriptor> open_running_executable();
// A file that may be executed; the error names it. Close-on-exec.
Result<Descriptor> open_executable(const std::string& path);

// The arguments of this process, for those that take its place. `argv` is that of main().
void set_arguments(char** argv);
char** arguments();

// A memfd(2) of this size, of which each page is there already: writing to it cannot fail for want of memory.
Result<Descriptor> reserve_memory(std::size_t bytes);
// Makes it hold this and no more, and seals it: nobody can change it from then on. It may be longer than what
// was reserved.
Result<void> fill_and_seal(const Descriptor& memory, std::string_view bytes);
Result<std::string> read_memory(int memory);
// Whether this descriptor is such memory.
bool is_sealed_memory(int fd);

// Gives the process to another executable, with this environment; async-signal-safe. Returns only where that
// fails, with errno.
void execute(int image, char* const* environment);

// The effective capabilities of this process (capabilities(7)), as bits.
std::uint64_t capabilities();

// The descriptors stay open over exec(3). The error: one of them is not open.
Result<void> make_inheritable(const std::vector<int>& descriptors);
// They do not; those that are not open any more are passed over.
void make_close_on_exec(const std::vector<int>& descriptors);

}  // namespace relayd::upgrade
