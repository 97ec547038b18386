// SPDX-License-Identifier: Apache-2.0
#include "libdist/bucket/bucket.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "tests/support/catch.h"

namespace dist {
namespace {

Arena arena_of(const std::vector<std::uint64_t>& sizes) {
  std::vector<Parameter> parameters;
  for (const auto size : sizes) {
    parameters.push_back({fmt::format("p{}", parameters.size()), Elems(size), DType::f32});
  }
  return Arena::create(parameters).value();
}

std::vector<Bucket> buckets_of(const Arena& arena, std::uint64_t bucket, std::uint64_t first) {
  return make_buckets(arena, {.bucket_bytes = Bytes(bucket), .first_bucket_bytes = Bytes(first)});
}

void require_cover(const Arena& arena, const std::vector<Bucket>& buckets) {
  REQUIRE_FALSE(buckets.empty());
  std::uint64_t next_elem = 0;
  std::size_t next_parameter = 0;
  for (const Bucket& bucket : buckets) {
    REQUIRE(bucket.range.begin == next_elem);
    REQUIRE(bucket.first_parameter == next_parameter);
    REQUIRE(bucket.last_parameter > bucket.first_parameter);
    for (std::size_t p = bucket.first_parameter; p < bucket.last_parameter; ++p) {
      REQUIRE(intersect(arena.range(p), bucket.range) == arena.range(p));
    }
    next_elem = bucket.range.end;
    next_parameter = bucket.last_parameter;
  }
  REQUIRE(next_elem == arena.elems().value);
  REQUIRE(next_parameter == arena.parameter_count());
}

}  // namespace

// Sizes in units of the 16 elements (64 bytes) to which parameters are aligned.
TEST_CASE("buckets cover the arena, never split a parameter, and close as soon as they are full") {
  constexpr std::uint64_t kUnit = 16;
  for (std::uint64_t shape = 0; shape < 4 * 4 * 4 * 4 * 4; ++shape) {
    std::vector<std::uint64_t> sizes;
    for (std::uint64_t rest = shape, p = 0; p < 5; ++p, rest /= 4) {
      sizes.push_back(rest % 4 * kUnit + (p % 2));
    }
    const Arena arena = arena_of(sizes);
    for (const std::uint64_t limit : {1u, 64u, 130u, 200u, 1u << 20}) {
      for (const std::uint64_t first : {1u, 100u, 1u << 20}) {
        const auto buckets = buckets_of(arena, limit, first);
        require_cover(arena, buckets);
        for (std::size_t b = 0; b < buckets.size(); ++b) {
          const auto least = b == 0 ? first : limit;
          const auto whole_bytes = buckets[b].range.elems() * 4;
          const auto last_begin = arena.range(buckets[b].last_parameter - 1).begin;
          const auto without_last_bytes = (last_begin - buckets[b].range.begin) * 4;
          if (b + 1 < buckets.size()) REQUIRE(whole_bytes >= least);
          if (buckets[b].last_parameter - buckets[b].first_parameter > 1) {
            REQUIRE(without_last_bytes < least);
          }
        }
      }
    }
  }
}

TEST_CASE("one parameter is one bucket, however large") {
  const Arena arena = arena_of({1000});
  const auto buckets = buckets_of(arena, 1, 1);
  REQUIRE(buckets.size() == 1);
  require_cover(arena, buckets);
}

TEST_CASE("buckets leave in their order, whatever the order of the gradients") {
  const Arena arena = arena_of({16, 16, 16, 16, 16});
  const auto buckets = buckets_of(arena, 128, 64);
  REQUIRE(buckets.size() == 3);
  std::vector<std::size_t> order(5);
  std::iota(order.begin(), order.end(), 0);
  BucketTracker tracker(buckets);
  do {
    tracker.begin_step();
    std::vector<bool> ready(5, false);
    std::size_t left = 0;
    for (const std::size_t parameter : order) {
      tracker.ready(parameter);
      ready[parameter] = true;
      while (const auto full = tracker.next_full()) {
        REQUIRE(*full == left);
        for (std::size_t p = 0; p < buckets[*full].last_parameter; ++p) REQUIRE(ready[p]);
        ++left;
      }
      const bool next_is_full =
          left < buckets.size() &&
          std::all_of(ready.begin(),
                      ready.begin() + static_cast<std::ptrdiff_t>(buckets[left].last_parameter),
                      [](bool r) { return r; });
      REQUIRE_FALSE(next_is_full);
      REQUIRE(tracker.step_complete() == (left == buckets.size()));
    }
    REQUIRE(tracker.step_complete());
    REQUIRE_FALSE(tracker.next_full().has_value());
  } while (std::next_permutation(order.begin(), order.end()));
}

}  // namespace dist
