// SPDX-License-Identifier: Apache-2.0
// The group over NCCL itself, a rank a GPU: as many as there are, each a thread. Sums are of whole
// numbers, which no order changes.
#include <fmt/format.h>

#include <array>
#include <functional>
#include <thread>

#include "allreduce/device_group.h"
#include "tests/support/catch.h"
#include "tests/support/ranks.h"

namespace {

using namespace dist;
using namespace std::chrono_literals;
using allreduce::device_chunk;
using allreduce::DeviceGroup;
using allreduce::DeviceOperation;
using test::expect;
using test::expect_ok;
using Kind = DeviceOperation::Kind;

constexpr std::size_t kElems = 1000;

// Floats on a GPU, and the way there and back.
class Floats {
 public:
  Floats(Device& device, Stream stream)
      : device_(device),
        stream_(stream),
        there_(device.allocate(Bytes(kElems * 4), MemoryKind::device).value()),
        here_(device.allocate(Bytes(kElems * 4), MemoryKind::pinned).value()) {}

  std::span<std::byte> bytes() const { return there_.bytes().first(kElems * 4); }

  void set(int rank) {
    for (std::size_t i = 0; i < kElems; ++i) values()[i] = value(rank, i);
    expect_ok(device_.copy(stream_, bytes(), here_.bytes().first(kElems * 4)));
    expect_ok(device_.synchronize(stream_));
  }
  std::span<float> get() {
    expect_ok(device_.copy(stream_, here_.bytes().first(kElems * 4), bytes()));
    expect_ok(device_.synchronize(stream_));
    return values();
  }

  static float value(int rank, std::size_t i) {
    return static_cast<float>((i * 7 + static_cast<std::size_t>(rank) * 13) % 101);
  }
  static float sum(int ranks, std::size_t i) {
    float all = 0;
    for (int r = 0; r < ranks; ++r) all += value(r, i);
    return all;
  }

 private:
  std::span<float> values() { return {reinterpret_cast<float*>(here_.bytes().data()), kElems}; }

  Device& device_;
  Stream stream_;
  DeviceMemory there_;
  DeviceMemory here_;
};

void run_gpus(int ranks, const std::function<void(World&, Device&, Stream)>& body,
              const Options& options = {}) {
  test::run_ranks(
      "shm", ranks,
      [&](World& world) {
        const auto device = open_device(world.rank()).value();
        body(world, *device, device->make_stream(StreamPriority::high).value());
      },
      options);
}

Result<std::unique_ptr<DeviceGroup>> make_group(World& world, Device& device) {
  return allreduce::make_nccl_group(world.progress(), world.trace(), world.options(), device);
}

void need_a_gpu() {
  if (const auto usable = device_available(); !usable.ok()) test::skip(usable.message());
}

TEST_CASE("NCCL: every collective has the values of a serial loop") {
  need_a_gpu();
  for (int ranks = 1; ranks <= device_count(); ++ranks) {
    run_gpus(ranks, [ranks](World& world, Device& device, Stream stream) {
      const auto group = make_group(world, device).value();
      const Rank rank = world.rank();
      const Range own = device_chunk({0, kElems}, ranks, rank);
      Floats data(device, stream);
      const auto enqueue = [&](Kind kind, Rank root) {
        expect_ok(group->enqueue(stream, {kind, data.bytes(), DType::f32, root}, name_of(kind)));
      };
      data.set(rank);
      enqueue(Kind::all_reduce, 0);
      const auto reduced = data.get();
      for (std::size_t i = 0; i < kElems; ++i) {
        expect(reduced[i] == Floats::sum(ranks, i), "all-reduce");
      }
      data.set(rank);
      enqueue(Kind::reduce_scatter, 0);
      const auto scattered = data.get();
      for (auto i = own.begin; i < own.end; ++i) {
        expect(scattered[i] == Floats::sum(ranks, i), "reduce-scatter");
      }
      enqueue(Kind::all_gather, 0);
      const auto gathered = data.get();
      for (std::size_t i = 0; i < kElems; ++i) {
        expect(gathered[i] == Floats::sum(ranks, i), "all-gather");
      }
      data.set(rank);
      enqueue(Kind::reduce, ranks - 1);
      const auto rooted = data.get();
      for (std::size_t i = 0; i < kElems; ++i) {
        expect(rooted[i] == (rank == ranks - 1 ? Floats::sum(ranks, i) : Floats::value(rank, i)),
               "reduce");
      }
      data.set(rank);
      enqueue(Kind::broadcast, ranks - 1);
      expect(data.get()[5] == Floats::value(ranks - 1, 5), "broadcast");
      data.set(rank);
      Floats received(device, stream);
      const std::array<DeviceOperation, 2> both = {
          DeviceOperation{Kind::send, data.bytes(), DType::f32, (rank + 1) % ranks},
          DeviceOperation{Kind::receive, received.bytes(), DType::f32, (rank + ranks - 1) % ranks}};
      expect_ok(group->enqueue(stream, both, "round the ring"));
      expect(received.get()[7] == Floats::value((rank + ranks - 1) % ranks, 7), "messages");
      expect_ok(group->close());
    });
  }
}

TEST_CASE("NCCL: a rank that leaves a collective out ends the others by the deadline") {
  need_a_gpu();
  if (device_count() < 2) {
    WARN("not run: it needs 2 GPUs");
    return;
  }
  Options options;
  options.timeout = 3s;
  run_gpus(
      2,
      [](World& world, Device& device, Stream stream) {
        const auto group = make_group(world, device).value();
        Floats data(device, stream);
        const DeviceOperation sum{Kind::all_reduce, data.bytes(), DType::f32};
        expect_ok(group->enqueue(stream, sum, "both"));
        expect_ok(group->wait());
        if (world.rank() == 0) {
          const auto began = Clock::now();
          Status failed = group->enqueue(stream, sum, "alone");
          if (failed.ok()) failed = group->wait();
          expect(!failed.ok() && failed.message().find("alone") != std::string::npos, "{}",
                 failed.message());
          expect(Clock::now() - began < 20s, "in time");
          expect_ok(device.synchronize(stream));  // it has run dry
        } else {
          const auto until = Clock::now() + 20s;
          while (group->failure().ok() && Clock::now() < until) std::this_thread::sleep_for(10ms);
        }
      },
      options);
}

TEST_CASE("NCCL: two ranks on one GPU are told so") {
  need_a_gpu();
  test::run_ranks("shm", 2, [](World& world) {
    const auto device = open_device(0).value();
    const auto made = make_group(world, *device);
    if (made.ok()) return;  // a version that allows it
    expect(made.status().code() == ErrorCode::unavailable, "{}", made.status().message());
  });
}

}  // namespace
