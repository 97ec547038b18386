// SPDX-License-Identifier: Apache-2.0
#include "libdist/transport/process_identity.h"

#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include "tests/support/catch.h"

namespace dist {

TEST_CASE("this process is alive and knows itself") {
  const auto self = this_process();
  REQUIRE(self.pid == ::getpid());
  REQUIRE(self.start_ticks != 0);
  REQUIRE(self == this_process());
  REQUIRE(is_alive(self));
}

TEST_CASE("a process that has ended is not alive, also before its parent has waited for it") {
  int ends[2];
  REQUIRE(::pipe(ends) == 0);
  const pid_t child = ::fork();
  if (child == 0) {
    const auto self = this_process();
    if (::write(ends[1], &self, sizeof self) != sizeof self) ::_exit(1);
    for (;;) ::pause();
  }
  ProcessIdentity identity;
  REQUIRE(::read(ends[0], &identity, sizeof identity) == sizeof identity);
  REQUIRE(identity.pid == child);
  REQUIRE(is_alive(identity));
  ::kill(child, SIGKILL);
  siginfo_t information{};
  REQUIRE(::waitid(P_PID, static_cast<id_t>(child), &information, WEXITED | WNOWAIT) == 0);
  REQUIRE_FALSE(is_alive(identity));
  REQUIRE(::waitpid(child, nullptr, 0) == child);
  REQUIRE_FALSE(is_alive(identity));
  ::close(ends[0]);
  ::close(ends[1]);
}

TEST_CASE("another process that got the number is not the one that was meant") {
  auto earlier = this_process();
  earlier.start_ticks -= 1;
  REQUIRE_FALSE(is_alive(earlier));
}

TEST_CASE("a process of another container cannot be judged and counts as alive") {
  auto foreign = this_process();
  foreign.pid_namespace += 1;
  foreign.start_ticks += 1;
  REQUIRE(is_alive(foreign));
}

}  // namespace dist
