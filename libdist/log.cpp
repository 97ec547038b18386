// SPDX-License-Identifier: Apache-2.0
#include "libdist/log.h"

#include <fmt/format.h>
#include <unistd.h>

namespace dist {

void Log::warning(std::string_view text) const {
  if (level_ >= LogLevel::warning) line("warning: ", text);
}

void Log::info(std::string_view text) const {
  if (level_ >= LogLevel::info) line("", text);
}

void Log::line(std::string_view level, std::string_view text) const {
  const auto whole = fmt::format("[rank {}] {}{}\n", rank_, level, text);
  // Nothing can be done about a stderr that does not take a line.
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, whole.data(), whole.size());
}

}  // namespace dist
