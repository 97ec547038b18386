// SPDX-License-Identifier: Apache-2.0
// Ranks as threads, each with a fake GPU and the fake NCCL.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <functional>
#include <span>
#include <vector>

#include "allreduce/device_group.h"
#include "tests/support/fake_device.h"
#include "tests/support/fake_nccl.h"
#include "tests/support/ranks.h"

namespace dist::test {

/// One rank: its GPU and a stream.
struct Seat {
  explicit Seat(World& world, bool shared_gpu = false)
      : rank(world.rank()),
        device({.index = rank,
                .uuid = fmt::format("gpu-{}", shared_gpu ? 0 : rank),
                .seed = static_cast<unsigned>(rank),
                .most_delay = std::chrono::microseconds(200)}),
        stream(device.make_stream(StreamPriority::high).value()) {
    fake_nccl::set_rank(rank);
  }

  std::span<std::byte> memory(std::size_t bytes) {
    held.push_back(device.allocate(Bytes(bytes), MemoryKind::device).value());
    return held.back().bytes().first(bytes);
  }
  template <typename T>
  std::span<T> of(const std::vector<T>& values) {
    const auto bytes = memory(values.size() * sizeof(T));
    if (!bytes.empty()) std::memcpy(bytes.data(), values.data(), bytes.size());
    return {reinterpret_cast<T*>(bytes.data()), values.size()};
  }
  template <typename T>
  allreduce::DeviceOperation operation(allreduce::DeviceOperation::Kind kind, std::span<T> data,
                                       Rank peer = 0) const {
    return {kind, std::as_writable_bytes(data), dtype_of<T>, peer};
  }
  // By now a program would have read a result.
  void read() { expect_ok(device.synchronize(stream)); }

  Rank rank;
  FakeDevice device;
  Stream stream;
  std::vector<DeviceMemory> held;
};

/// A fresh NCCL for each test.
struct FreshNccl {
  FreshNccl() { fake_nccl::reset(); }
  ~FreshNccl() { fake_nccl::release(); }
};

inline void run_seats(int ranks, const std::function<void(World&, Seat&)>& body,
                      Options options = {}, bool shared_gpu = false) {
  run_ranks(
      "shm", ranks,
      [&](World& world) {
        Seat seat(world, shared_gpu);
        body(world, seat);
      },
      options);
}

inline Result<std::unique_ptr<allreduce::DeviceGroup>> make_group(World& world, Seat& seat) {
  return allreduce::make_nccl_group(world.progress(), world.trace(), world.options(), seat.device);
}

/// What rank `rank` brings to a sum.
inline std::vector<float> values(Rank rank, std::size_t elems) {
  std::vector<float> all(elems);
  for (std::size_t i = 0; i < elems; ++i) {
    all[i] = static_cast<float>((i * 7919 + static_cast<std::size_t>(rank) * 104729) % 999) / 7;
  }
  return all;
}

inline std::vector<float> serial_sum(int ranks, std::size_t elems) {
  auto sum = values(0, elems);
  for (Rank r = 1; r < ranks; ++r) {
    const auto more = values(r, elems);
    for (std::size_t i = 0; i < elems; ++i) sum[i] += more[i];
  }
  return sum;
}

inline bool same(std::span<const float> a, std::span<const float> b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end());
}

}  // namespace dist::test
