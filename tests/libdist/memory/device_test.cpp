// SPDX-License-Identifier: Apache-2.0
#include "libdist/memory/device.h"

#include <algorithm>
#include <atomic>
#include <vector>

#include "libdist/bucket/arena.h"
#include "tests/libdist/memory/device_contract.h"
#include "tests/support/catch.h"
#include "tests/support/fake_device.h"
#include "tests/support/processes.h"
#include "tests/support/ranks.h"

namespace dist {

std::unique_ptr<Device> test::make_device() { return std::make_unique<test::FakeDevice>(); }

namespace {

using test::FakeDevice;

std::span<const std::byte> bytes_of_value(const int& value) {
  return std::as_bytes(std::span(&value, 1));
}

}  // namespace

TEST_CASE("where there is no GPU, the reason is told") {
  if (device_available().ok()) {
    REQUIRE(device_count() >= 1);
    return;
  }
  REQUIRE(device_count() == 0);
  REQUIRE(device_available().code() == ErrorCode::unavailable);
  REQUIRE(device_available().message().size() > 20);
  const auto device = open_device(0);
  REQUIRE_FALSE(device.ok());
  REQUIRE(device.status().code() == ErrorCode::unavailable);
}

TEST_CASE("fake streams run on their own, and events order them") {
  FakeDevice device;
  auto first = device.make_stream(StreamPriority::normal).value();
  auto second = device.make_stream(StreamPriority::high).value();
  REQUIRE(device.priority(second) == StreamPriority::high);
  auto memory = device.allocate(8_B, MemoryKind::pinned).value();
  const auto a = memory.bytes().first(4);
  const auto b = memory.bytes().subspan(4);
  const int seven = 7;
  device.hold(first);
  REQUIRE_OK(device.copy(first, a, bytes_of_value(seven)));
  auto mark = device.record(first).value();
  REQUIRE_OK(device.wait(second, mark));
  REQUIRE_OK(device.copy(second, b, a));
  auto end = device.record(second).value();
  REQUIRE_FALSE(device.passed(mark).value());
  REQUIRE_FALSE(device.passed(end).value());
  device.let_go(first);
  REQUIRE_OK(device.synchronize(second));
  REQUIRE(device.passed(mark).value());
  REQUIRE(device.passed(end).value());
  REQUIRE(device.elapsed(mark, end).value() >= Duration(0));
  int got = 0;
  std::copy_n(b.data(), 4, std::as_writable_bytes(std::span(&got, 1)).data());
  REQUIRE(got == 7);
  device.release_event(mark);
  device.release_event(end);
  REQUIRE(device.events_out() == 0);
}

TEST_CASE("a fake stream does not wait for what no event orders") {
  FakeDevice device;
  auto first = device.make_stream(StreamPriority::normal).value();
  auto second = device.make_stream(StreamPriority::normal).value();
  std::atomic<int> order = 0;
  device.hold(first);
  FakeDevice::enqueue(first, [&] { order = 1; });
  FakeDevice::enqueue(second, [&] { order = order == 0 ? 2 : 3; });
  REQUIRE_OK(device.synchronize(second));
  REQUIRE(order == 2);
  device.let_go(first);
  REQUIRE_OK(device.synchronize(first));
  REQUIRE(order == 1);
}

TEST_CASE("an event that is used again leaves older waits alone") {
  FakeDevice device;
  auto first = device.make_stream(StreamPriority::normal).value();
  auto second = device.make_stream(StreamPriority::normal).value();
  device.hold(second);
  auto mark = device.record(first).value();
  REQUIRE_OK(device.wait(second, mark));
  REQUIRE_OK(device.synchronize(first));
  device.release_event(mark);
  device.hold(first);
  auto again = device.record(first).value();
  REQUIRE(again.handle == mark.handle);
  device.let_go(second);
  REQUIRE_OK(device.synchronize(second));
  REQUIRE_FALSE(device.passed(again).value());
  device.let_go(first);
  REQUIRE_OK(device.synchronize(first));
  REQUIRE(device.passed(again).value());
}

TEST_CASE("failures of a fake device come when they are planned") {
  FakeDevice device({.memory = 100_B});
  device.fail("record", Status::resource("no mark"), 1);
  REQUIRE_OK(device.record({}));
  const auto failed = device.record({});
  REQUIRE_FALSE(failed.ok());
  REQUIRE(failed.status().message() == "record -> no mark");
  REQUIRE_OK(device.record({}));
  {
    auto most = device.allocate(80_B, MemoryKind::device);
    REQUIRE_OK(most);
    REQUIRE(device.allocate(40_B, MemoryKind::device).status().code() == ErrorCode::resource);
    REQUIRE(device.allocations() == 1);
    REQUIRE(device.allocated() == 80_B);
  }
  REQUIRE(device.allocations() == 0);
  device.break_down({}, Status::peer_lost("the GPU fell off the bus"));
  REQUIRE_FALSE(device.synchronize({}).ok());
  REQUIRE_FALSE(device.record({}).ok());
}

TEST_CASE("memory of a fake device is reached from another process") {
  auto memory_of = [](Device& device) { return device.allocate(1000_B, MemoryKind::device); };
  FakeDevice device;
  auto memory = memory_of(device).value();
  auto address = device.address(memory).value();
  auto same = device.attach(address).value();
  REQUIRE(same.bytes().data() == memory.bytes().data());
  // As if by another process: through the file.
  address.process = 0;
  auto other = device.attach(address).value();
  REQUIRE(other.bytes().data() != memory.bytes().data());
  other.bytes()[999] = std::byte{42};
  REQUIRE(memory.bytes()[999] == std::byte{42});
}

TEST_CASE("an arena on a device lies in its memory") {
  FakeDevice device;
  auto stream = device.make_stream(StreamPriority::normal).value();
  auto made =
      Arena::create({{"a", Elems(3)}, {"b", Elems(100)}}, {.device = &device, .stream = stream});
  REQUIRE_OK(made);
  const Arena arena = *std::move(made);
  REQUIRE(arena.device() == &device);
  REQUIRE(arena.stream().handle == stream.handle);
  REQUIRE(device.allocations() == 2);
  REQUIRE_FALSE(arena.gradient_memory().shareable());
  REQUIRE(arena.gradients(arena.range(0)).data() == arena.device_gradients().bytes().data());
  REQUIRE(arena.parameters(arena.range(1)).data() ==
          arena.device_parameters().bytes().data() + arena.range(1).begin * 4);
  REQUIRE_FALSE(Arena::create({{"a", Elems(3)}}, {.alias_window = 4_KiB, .device = &device}).ok());
  std::vector<float> own(3);
  const auto borrowed =
      Arena::create({borrow("mine", std::span(own), std::span(own))}, {.device = &device});
  REQUIRE(borrowed.status().code() == ErrorCode::invalid_argument);
  device.fail("allocate", Status::resource("full"), 1);
  REQUIRE(Arena::create({{"a", Elems(3)}}, {.device = &device}).status().code() ==
          ErrorCode::resource);
  REQUIRE(device.allocations() == 2);
}

}  // namespace dist
