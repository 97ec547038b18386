// SPDX-License-Identifier: Apache-2.0
#include "libdist/check.h"

#include <cstdio>
#include <cstdlib>

namespace dist::detail {

void assertion_failed(const char* condition, const char* message, const char* file, int line) {
  std::fprintf(stderr, "libdist: broken invariant: %s [%s] at %s:%d\n", message, condition, file,
               line);
  std::abort();
}

}  // namespace dist::detail
