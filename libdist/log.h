// SPDX-License-Identifier: Apache-2.0
// One line of text on stderr, headed by rank and level. The library speaks seldom: warnings, and
// what the user asked for.
#pragma once

#include <string_view>

#include "libdist/types.h"

namespace dist {

/// How much is said: each level has those before it.
enum class LogLevel : std::uint8_t { quiet, warning, info };

/// Writes "[rank 3] warning: text" in one write, so that lines of several ranks do not mix.
class Log {
 public:
  /// Lines of this rank, up to this level.
  Log(Rank rank, LogLevel level) : rank_(rank), level_(level) {}
  /// Something is not as it should be, and training goes on. Thread-safe, as info().
  void warning(std::string_view text) const;
  /// What a user who asks for it may want to know.
  void info(std::string_view text) const;

 private:
  void line(std::string_view level, std::string_view text) const;

  Rank rank_;
  LogLevel level_;
};

}  // namespace dist
