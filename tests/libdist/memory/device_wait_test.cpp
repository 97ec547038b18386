// SPDX-License-Identifier: Apache-2.0
#include "libdist/memory/device_wait.h"

#include <atomic>
#include <thread>

#include "tests/support/catch.h"
#include "tests/support/fake_device.h"

namespace {

using namespace dist;
using test::FakeDevice;

constexpr Duration kLong = std::chrono::seconds(60);

TEST_CASE("waits for what is on the stream, and for no other stream") {
  FakeDevice device;
  const auto stream = device.make_stream(StreamPriority::normal).value();
  const auto other = device.make_stream(StreamPriority::normal).value();
  std::atomic<int> ended = 0;
  device.hold(other);
  FakeDevice::enqueue(other, [&] { ended += 100; });
  for (int i = 0; i < 10; ++i) {
    FakeDevice::enqueue(stream, [&] {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));
      ++ended;
    });
  }
  REQUIRE_OK(wait_for_stream(device, stream, kLong, "test"));
  CHECK(ended == 10);
  CHECK(device.events_out() == 0);
  device.let_go(other);
}

TEST_CASE("ends with the deadline, another failure, or the device's") {
  FakeDevice device;
  const auto stream = device.make_stream(StreamPriority::normal).value();
  device.hold(stream);
  const auto late = wait_for_stream(device, stream, std::chrono::milliseconds(30), "ring: sweep");
  CHECK(late.code() == ErrorCode::timed_out);
  CHECK(late.message().starts_with("ring: sweep -> "));
  CHECK(late.message().find("within 0.03 s") != std::string::npos);
  const auto lost = wait_for_stream(device, stream, kLong, "ring: sweep",
                                    [] { return Status::peer_lost("rank 1 is gone"); });
  CHECK(lost.message() == "ring: sweep -> rank 1 is gone");
  CHECK(device.events_out() == 0);
  device.let_go(stream);
  device.break_down(stream, Status::resource("illegal address"));
  const auto broken = wait_for_stream(device, stream, kLong, "ring: sweep");
  CHECK(broken.message().find("illegal address") != std::string::npos);
}

TEST_CASE("a mark stays the caller's, whether it passes or not") {
  FakeDevice device;
  const auto stream = device.make_stream(StreamPriority::normal).value();
  const auto passed = device.record(stream).value();
  CHECK(wait_for_mark(device, passed, kLong).ok());
  device.hold(stream);
  const auto held = device.record(stream).value();
  CHECK(wait_for_mark(device, held, std::chrono::milliseconds(20)).code() == ErrorCode::timed_out);
  CHECK(device.events_out() == 2);
  device.let_go(stream);
  for (const Event event : {passed, held}) device.release_event(event);
}

}  // namespace
