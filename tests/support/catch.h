// SPDX-License-Identifier: Apache-2.0
// Catch2, whichever major version the system has: 2.13 in Debian 12, 3.x in newer ones.
#pragma once

#if __has_include(<catch2/catch_test_macros.hpp>)
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
namespace dist::test {
using Catch::Approx;
}
#else
#include <catch2/catch.hpp>
namespace dist::test {
using Catch::Detail::Approx;
}
#endif

#include <string_view>

#include "libdist/status.h"

namespace dist::test {

/// Ends this executable as skipped (exit code 77) with a reason that CTest shows.
[[noreturn]] void skip(std::string_view reason);
}  // namespace dist::test

/// Requires a Status or Result to be ok and shows its story where it is not.
#define REQUIRE_OK(expression)                             \
  do {                                                     \
    const auto& require_ok = (expression);                 \
    INFO(::dist::detail::as_status(require_ok).message()); \
    REQUIRE(require_ok.ok());                              \
  } while (false)
