// SPDX-License-Identifier: Apache-2.0
#include "libdist/log.h"

#include <unistd.h>

#include <string>

#include "tests/support/catch.h"

namespace dist {
namespace {

// What `speak` writes to stderr.
template <typename Speak>
std::string stderr_of(Speak speak) {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const int saved = ::dup(STDERR_FILENO);
  ::dup2(ends[1], STDERR_FILENO);
  speak();
  ::dup2(saved, STDERR_FILENO);
  ::close(saved);
  ::close(ends[1]);
  std::string text(4096, '\0');
  const auto length = ::read(ends[0], text.data(), text.size());
  ::close(ends[0]);
  text.resize(static_cast<std::size_t>(length > 0 ? length : 0));
  return text;
}

std::string both(Rank rank, LogLevel level) {
  return stderr_of([&] {
    const Log log(rank, level);
    log.warning("disk is slow");
    log.info("starting");
  });
}

}  // namespace

TEST_CASE("a line is headed by rank and level, and the level decides what is said") {
  REQUIRE(both(3, LogLevel::quiet).empty());
  REQUIRE(both(3, LogLevel::warning) == "[rank 3] warning: disk is slow\n");
  REQUIRE(both(0, LogLevel::info) == "[rank 0] warning: disk is slow\n[rank 0] starting\n");
}

TEST_CASE("a stderr that is closed does no harm") {
  const int saved = ::dup(STDERR_FILENO);
  ::close(STDERR_FILENO);
  REQUIRE_NOTHROW(Log(0, LogLevel::info).warning("nobody hears this"));
  ::dup2(saved, STDERR_FILENO);
  ::close(saved);
}

}  // namespace dist
