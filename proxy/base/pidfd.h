#pragma once

// <sys/pidfd.h> of glibc 2.36 (Debian 12) does not say that its functions are C (glibc bug 29685).
extern "C" {
#include <sys/pidfd.h>
}
