// SPDX-License-Identifier: Apache-2.0
#include "allreduce/device_watch.h"

#include <atomic>
#include <optional>
#include <thread>

#include "tests/support/catch.h"
#include "tests/support/fake_device.h"

namespace {

using namespace dist;
using namespace std::chrono_literals;
using allreduce::DeviceWatch;
using test::FakeDevice;

// A device, a stream of it that can be held, and how often the watch ended something.
struct Bench {
  FakeDevice device;
  Stream stream = device.make_stream(StreamPriority::normal).value();
  std::atomic<int> ends = 0;

  allreduce::DeviceWatchOptions options(Duration timeout = 10s) {
    return {"told", timeout, 1ms, {}, [this](const Status& why) {
              ++ends;
              device.let_go(stream);
              return Status(why.code(), why.message() + "; ended");
            }};
  }
};

template <typename Condition>
bool soon(const Condition& condition) {
  const auto until = Clock::now() + 10s;
  while (!condition() && Clock::now() < until) std::this_thread::sleep_for(1ms);
  return condition();
}

TEST_CASE("wait() returns when all marks have passed, and their events are given back") {
  Bench bench;
  {
    DeviceWatch watch(bench.device, bench.options());
    REQUIRE_OK(watch.wait());
    REQUIRE(watch.idle());
    std::atomic<bool> done = false;
    bench.device.hold(bench.stream);
    FakeDevice::enqueue(bench.stream, [&] { done = true; });
    REQUIRE_OK(watch.mark(bench.stream, "first"));
    REQUIRE_OK(watch.mark(bench.stream, "second"));
    REQUIRE(!watch.idle());
    bench.device.let_go(bench.stream);
    REQUIRE_OK(watch.wait());
    REQUIRE(done);
    REQUIRE(bench.device.events_out() == 0);
    REQUIRE_OK(watch.mark(bench.stream, "left"));
  }
  REQUIRE(bench.device.events_out() == 0);
  REQUIRE(bench.ends == 0);
}

TEST_CASE("work that does not end is overdue: the oldest is named, once") {
  Bench bench;
  DeviceWatch watch(bench.device, bench.options(100ms));
  bench.device.hold(bench.stream);
  REQUIRE_OK(watch.mark(bench.stream, "bucket 3"));
  REQUIRE_OK(watch.mark(bench.stream, "bucket 4"));
  const auto began = Clock::now();
  const auto failed = watch.wait();
  REQUIRE(Clock::now() - began >= 90ms);
  REQUIRE(failed.code() == ErrorCode::timed_out);
  REQUIRE(failed.message() ==
          "told -> bucket 3 has not ended, and nothing has for 0.1 s; 2 operation(s) wait; ended");
  REQUIRE(watch.fail(Status::cancelled("later")).message() == failed.message());
  REQUIRE(watch.failure().message() == failed.message());
  REQUIRE(bench.ends == 1);
}

TEST_CASE("the time runs from the last mark that passed, not from the mark's own beginning") {
  Bench bench;
  DeviceWatch watch(bench.device, bench.options(300ms));
  for (int i = 0; i < 6; ++i) {
    FakeDevice::enqueue(bench.stream, [] { std::this_thread::sleep_for(100ms); });
    REQUIRE_OK(watch.mark(bench.stream, "slow"));
  }
  REQUIRE_OK(watch.wait());  // 600 ms in all
  std::this_thread::sleep_for(400ms);
  REQUIRE_OK(watch.failure());  // nothing waits
  REQUIRE_OK(watch.mark(bench.stream, "after a rest"));
  REQUIRE_OK(watch.wait());
}

TEST_CASE("failures of others and of the device are found by themselves") {
  Bench bench;
  std::atomic<bool> broken = false;
  auto options = bench.options();
  options.failure_elsewhere = [&] {
    return broken ? Status::peer_lost("somebody is gone") : Status();
  };
  DeviceWatch watch(bench.device, options);
  REQUIRE_OK(watch.failure());
  broken = true;
  REQUIRE(soon([&] { return bench.ends == 1; }));
  REQUIRE(soon([&] { return watch.failure().message() == "told -> somebody is gone; ended"; }));

  Bench other;
  DeviceWatch second(other.device, other.options());
  other.device.hold(other.stream);
  REQUIRE_OK(second.mark(other.stream, "bucket 1"));
  other.device.fail("passed", Status::resource("illegal address"));
  REQUIRE(second.wait().message().find("told -> bucket 1 -> ") == 0);
  REQUIRE(second.wait().code() == ErrorCode::resource);
}

TEST_CASE("fail() ends what is in flight before it returns; who waits is let go") {
  Bench bench;
  DeviceWatch watch(bench.device, bench.options());
  bench.device.hold(bench.stream);
  REQUIRE_OK(watch.mark(bench.stream, "bucket 0"));
  Status waited;
  std::jthread waiter([&] { waited = watch.wait(); });
  std::this_thread::sleep_for(10ms);
  REQUIRE(watch.fail(Status::cancelled("enough")).message() == "told -> enough; ended");
  REQUIRE(bench.ends == 1);
  waiter.join();
  REQUIRE(waited.message() == "told -> enough; ended");
}

TEST_CASE("a stream that is captured is not marked") {
  Bench bench;
  DeviceWatch watch(bench.device, bench.options());
  bench.device.set_capturing(true);
  REQUIRE_OK(watch.mark(bench.stream, "captured"));
  REQUIRE(watch.idle());
  REQUIRE(bench.device.events_out() == 0);
}

}  // namespace
