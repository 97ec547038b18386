// SPDX-License-Identifier: Apache-2.0
#include "libdist/transport/doorbell.h"

#include <thread>

#include "tests/support/catch.h"

namespace dist {

// A lost wake-up would make the test run into its time limit.
TEST_CASE("no ring between the last look and the sleep is lost") {
  constexpr int kTurns = 3000;
  Doorbell ping, pong;
  std::atomic<int> pinged = 0, ponged = 0;
  const auto await = [](Doorbell& bell, std::atomic<int>& value, int wanted) {
    for (;;) {
      const auto armed = bell.arm();
      if (value.load() >= wanted) {
        bell.disarm();
        return;
      }
      bell.sleep(armed, std::chrono::hours(1));
    }
  };
  std::thread other([&] {
    for (int turn = 1; turn <= kTurns; ++turn) {
      await(ping, pinged, turn);
      ponged.store(turn);
      pong.ring();
    }
  });
  for (int turn = 1; turn <= kTurns; ++turn) {
    pinged.store(turn);
    ping.ring();
    await(pong, ponged, turn);
  }
  other.join();
  REQUIRE(ponged.load() == kTurns);
}

TEST_CASE("a sleep ends by itself at its limit") {
  Doorbell bell;
  const auto armed = bell.arm();
  const auto begin = Clock::now();
  bell.sleep(armed, std::chrono::milliseconds(5));
  REQUIRE(Clock::now() - begin >= std::chrono::milliseconds(4));
  bell.sleep(bell.arm(), Duration::zero());
  bell.sleep(bell.arm(), Duration(-1));
}

TEST_CASE("a bell that was rung after arm() does not let its owner sleep") {
  Doorbell bell;
  const auto armed = bell.arm();
  bell.ring();
  bell.sleep(armed, std::chrono::hours(1));
  SUCCEED("came back");
}

}  // namespace dist
