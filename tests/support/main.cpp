// SPDX-License-Identifier: Apache-2.0
// main() of every test, and the way to skip one.
#if __has_include(<catch2/catch_session.hpp>)
#include <catch2/catch_session.hpp>
#else
#define CATCH_CONFIG_RUNNER
#endif
#include "tests/support/catch.h"

#include <cstdio>
#include <cstdlib>

namespace dist::test {

void skip(std::string_view reason) {
  std::printf("SKIPPED: %.*s\n", static_cast<int>(reason.size()), reason.data());
  std::fflush(stdout);
  std::_Exit(77);
}

}  // namespace dist::test

int main(int argc, char** argv) { return Catch::Session().run(argc, argv); }
