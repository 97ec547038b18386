// SPDX-License-Identifier: Apache-2.0
#include "allreduce/host_all_reduce.h"

#include <array>
#include <numeric>
#include <string>
#include <vector>

#include "allreduce/all_reduce.h"
#include "tests/support/catch.h"
#include "tests/support/ranks.h"

namespace {

using namespace dist;
using allreduce::HostAllReduce;
using test::expect;
using test::expect_ok;

std::unique_ptr<HostAllReduce> meet(World& world) {
  return HostAllReduce::meet({.member = world.rank(),
                              .members = world.ranks(),
                              .timeout = std::chrono::seconds(20),
                              .sum_words =
                                  [&world](std::span<std::uint64_t> words) {
                                    allreduce::AllReduceOptions options;
                                    options.data = std::as_writable_bytes(words);
                                    options.dtype = DType::u64;
                                    options.rank = world.rank();
                                    options.ranks = world.ranks();
                                    options.label = "test";
                                    return world.progress().run(allreduce::make_ring_all_reduce(
                                        std::move(options), world.trace()));
                                  },
                              .failure = {}})
      .value();
}

constexpr std::uint64_t kPeriod = 5;

// Whole numbers that differ by rank, element and call, with sums that are exact.
template <typename T>
T number(Rank rank, std::uint64_t element, std::uint64_t call) {
  return static_cast<T>((element * 7 + static_cast<std::uint64_t>(rank) * 3 + call) % kPeriod + 1);
}

template <typename T>
void check(HostAllReduce& host, std::span<T> data, std::uint64_t call) {
  const int members = host.group().members();
  for (std::uint64_t i = 0; i < data.size(); ++i) {
    data[i] = number<T>(host.group().member(), i, call);
  }
  expect_ok(host.all_reduce(std::as_writable_bytes(data), dtype_of<T>, Reduction::sum, "sum"));
  std::array<T, kPeriod> sums{};
  for (std::uint64_t i = 0; i < kPeriod; ++i) {
    for (int m = 0; m < members; ++m) sums[i] = static_cast<T>(sums[i] + number<T>(m, i, call));
  }
  std::uint64_t right = 0;
  while (right < data.size() && data[right] == sums[right % kPeriod]) ++right;
  expect(right == data.size(), "element {} of {}", right, data.size());
}

// Below and above what goes at once, whole pieces and primes, fewer elements than members.
const std::vector<std::size_t> kLengths = {0,    1,     2,     7,      1024,  4096,
                                           4097, 65536, 65537, 131072, 200003};

TEST_CASE("sums are exact in allocated and in any other memory, call after call") {
  for (const int ranks : test::kRankCounts) {
    INFO(ranks << " ranks");
    REQUIRE_NOTHROW(test::run_ranks("shm", ranks, [](World& world) {
      const auto host = meet(world);
      const auto region = host->allocate(Bytes(200003 * 8 + 64)).value();
      std::vector<double> own(200010);
      std::uint64_t call = 0;
      for (const std::size_t length : kLengths) {
        for (const std::size_t offset : {0u, 3u}) {
          const auto shared = std::span(reinterpret_cast<double*>(region.data()) + offset, length);
          check(*host, shared, ++call);
          check(*host, std::span(own).subspan(offset, length), ++call);
          check(*host, std::span(reinterpret_cast<std::int32_t*>(region.data()) + offset, length),
                ++call);
          check(*host, std::span(reinterpret_cast<std::uint8_t*>(own.data()) + offset, length),
                ++call);
        }
      }
    }));
  }
}

TEST_CASE("every reduction, and the mean by the number of members") {
  for (const int ranks : {2, 3, 5}) {
    REQUIRE_NOTHROW(test::run_ranks("shm", ranks, [ranks](World& world) {
      const auto host = meet(world);
      for (const std::size_t length : {5u, 10007u}) {
        const auto result = [&](Reduction reduction) {
          std::vector<float> data(length, static_cast<float>(world.rank() + 1));
          expect_ok(host->all_reduce(std::as_writable_bytes(std::span(data)), DType::f32, reduction,
                                     "test"));
          for (const float value : data) expect(value == data.front(), "all elements");
          return data.front();
        };
        float product = 1;
        for (int r = 1; r <= ranks; ++r) product *= static_cast<float>(r);
        const auto n = static_cast<float>(ranks);
        expect(result(Reduction::sum) == n * (n + 1) / 2, "sum");
        expect(result(Reduction::mean) == (n + 1) / 2, "mean");
        expect(result(Reduction::min) == 1, "min");
        expect(result(Reduction::max) == n, "max");
        expect(result(Reduction::product) == product, "product");
      }
    }));
  }
}

TEST_CASE("a member that leaves is named with what was reduced") {
  std::string story;
  test::run_ranks("shm", 2, [&](World& world) {
    const auto host = meet(world);
    if (world.rank() == 1) return;
    std::vector<float> data(10);
    story = host->all_reduce(std::as_writable_bytes(std::span(data)), DType::f32, Reduction::sum,
                             "all-reduce of losses")
                .message();
  });
  INFO(story);
  CHECK(story.starts_with("all-reduce of losses: rank 0 waits for rank 1"));
}

}  // namespace
