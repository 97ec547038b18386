// SPDX-License-Identifier: Apache-2.0
// One line of text on stderr, headed by rank and level. The library speaks seldom: warnings, and
// what the user asked for.
#pragma once

#include <string_view>

#include "libdist/types.h"

namespace dist {

enum class LogLevel : std::uint8_t { quiet, warning, info };

/// Writes "[rank 3] warning: text" in one write, so that lines of several ranks do not mix.
class Log {
 public:
  Log(Rank rank, LogLevel level) : rank_(rank), level_(level) {}
  void warning(std::string_view text) const;
  void info(std::string_view text) const;

 private:
  void line(std::string_view level, std::string_view text) const;

  Rank rank_;
  LogLevel level_;
};

}  // namespace dist
