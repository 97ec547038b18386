// SPDX-License-Identifier: Apache-2.0
#include "allreduce/device_timeline.h"

#include <cstring>
#include <thread>

#include "tests/support/catch.h"
#include "tests/support/fake_device.h"

namespace {

using namespace dist;
using namespace std::chrono_literals;
using allreduce::DeviceTimeline;
using test::FakeDevice;

struct Bench {
  FakeDevice device;
  Stream collectives = device.make_stream(StreamPriority::high).value();
  Stream program = device.make_stream(StreamPriority::normal).value();
  DeviceMemory count = device.allocate(Bytes(sizeof(double)), MemoryKind::device).value();
  DeviceTimeline timeline{device};

  Bench() { REQUIRE_OK(timeline.prepare()); }

  void set_count(double value) {
    REQUIRE_OK(device.fill(program, DType::f64, count.bytes().first(sizeof value), value));
  }
  void step(Duration exchange = {}, Duration after = {}) {
    const auto sleep = [](Duration time) { return [time] { std::this_thread::sleep_for(time); }; };
    REQUIRE_OK(timeline.begin_step(collectives));
    REQUIRE_OK(timeline.end_backward(program));
    FakeDevice::enqueue(collectives, sleep(exchange));
    FakeDevice::enqueue(program, sleep(after));
    REQUIRE_OK(timeline.end_step(collectives, program, count.bytes().first(sizeof(double))));
  }
  Status wait() {
    return timeline.wait([] { return Status(); });
  }
};

TEST_CASE("times and contributors are those of the last step that is over; nobody waits for them") {
  Bench bench;
  REQUIRE(!bench.timeline.last().value().contributors);
  bench.set_count(3);
  bench.step(30ms, 60ms);
  REQUIRE_OK(bench.wait());
  const auto first = bench.timeline.last().value();
  REQUIRE(first.contributors == 3);
  REQUIRE(first.busy >= 30ms);
  REQUIRE(first.exposed >= 60ms);
  bench.device.hold(bench.program);
  bench.set_count(2);
  bench.step();
  REQUIRE(bench.timeline.last().value().contributors == 3);  // the second is under way
  bench.device.let_go(bench.program);
  REQUIRE_OK(bench.wait());
  REQUIRE(bench.timeline.last().value().contributors == 2);
  REQUIRE(bench.device.events_out() == 0);
}

TEST_CASE("a step is over when both of its streams are past it") {
  Bench bench;
  for (const Stream late : {bench.collectives, bench.program}) {
    bench.set_count(5);
    bench.device.hold(late);
    bench.step();
    std::this_thread::sleep_for(20ms);
    REQUIRE_OK(bench.timeline.last());
    REQUIRE(bench.device.events_out() == 4);
    bench.device.let_go(late);
    REQUIRE_OK(bench.wait());
    REQUIRE(bench.device.events_out() == 0);
  }
}

TEST_CASE("a host that runs far ahead leaves steps out, and no event or slot is used twice") {
  Bench bench;
  bench.device.hold(bench.program);
  for (std::size_t step = 0; step < 2 * DeviceTimeline::kMostSteps; ++step) {
    bench.set_count(static_cast<double>(step));
    bench.step();
  }
  REQUIRE(bench.device.events_out() == 4 * DeviceTimeline::kMostSteps);
  bench.device.let_go(bench.program);
  REQUIRE_OK(bench.wait());
  REQUIRE(bench.timeline.last().value().contributors == DeviceTimeline::kMostSteps - 1);
  bench.set_count(77);
  bench.step();
  REQUIRE_OK(bench.wait());
  REQUIRE(bench.timeline.last().value().contributors == 77);
}

TEST_CASE("a captured step is left out") {
  Bench bench;
  bench.device.set_capturing(true);
  bench.step();
  REQUIRE(bench.device.events_out() == 0);
  REQUIRE_OK(bench.wait());
  REQUIRE(!bench.timeline.last().value().contributors);
}

TEST_CASE("waits end with a failure, or by their grace") {
  Bench bench;
  bench.device.hold(bench.program);
  bench.step();
  const auto failed = bench.timeline.wait([] { return Status::peer_lost("rank 1 is gone"); });
  REQUIRE(failed.message() == "rank 1 is gone");
  REQUIRE(bench.timeline.wait_for(bench.program, 20ms).code() == ErrorCode::timed_out);
  bench.device.let_go(bench.program);
  REQUIRE_OK(bench.timeline.wait_for(bench.program, 10s));
}

}  // namespace
