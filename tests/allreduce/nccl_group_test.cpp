// SPDX-License-Identifier: Apache-2.0
// The group over a fake NCCL and fake devices: what it computes.
#include <optional>

#include "tests/allreduce/nccl_seats.h"
#include "tests/support/catch.h"

namespace {

using namespace dist;
using allreduce::device_chunk;
using allreduce::DeviceGroup;
using allreduce::DeviceOperation;
using test::expect;
using test::expect_ok;
using Kind = DeviceOperation::Kind;

template <typename T>
void check_sum(test::Seat& seat, DeviceGroup& group) {
  std::vector<T> own(5);
  for (int i = 0; i < 5; ++i) {
    own[static_cast<std::size_t>(i)] = T(static_cast<float>(i + seat.rank));
  }
  const auto data = seat.of(own);
  expect_ok(group.enqueue(seat.stream, seat.operation(Kind::all_reduce, data), "sum"));
  seat.read();
  const auto others = group.ranks() * (group.ranks() - 1) / 2;
  for (int i = 0; i < 5; ++i) {
    expect(static_cast<float>(data[static_cast<std::size_t>(i)]) ==
               static_cast<float>(i * group.ranks() + others),
           "a sum of {}", name_of(dtype_of<T>));
  }
}

TEST_CASE("every collective has the values of a serial loop, at any size") {
  for (const int ranks : {1, 2, 3, 4, 8}) {
    for (const std::size_t elems : {0u, 1u, 5u, 16u, 1000u}) {
      INFO(fmt::format("{} ranks, {} elements", ranks, elems));
      const test::FreshNccl fresh;
      const auto sum = test::serial_sum(ranks, elems);
      test::run_seats(ranks, [&](World& world, test::Seat& seat) {
        const auto group = test::make_group(world, seat).value();
        const Rank rank = seat.rank;
        const Rank root = ranks - 1;
        const Range own = device_chunk({0, elems}, ranks, rank);
        const auto reduced = seat.of(test::values(rank, elems));
        const auto scattered = seat.of(test::values(rank, elems));
        const auto rooted = seat.of(test::values(rank, elems));
        const auto copied = seat.of(test::values(rank, elems));
        const std::vector<DeviceOperation> all = {
            seat.operation(Kind::all_reduce, reduced),
            seat.operation(Kind::reduce_scatter, scattered),
            seat.operation(Kind::reduce, rooted, root),
            seat.operation(Kind::broadcast, copied, root),
        };
        expect_ok(group->enqueue(seat.stream, all, "all at once"));
        seat.read();
        expect(test::same(reduced, sum), "all-reduce");
        expect(test::same(scattered.subspan(own.begin, own.elems()),
                          std::span(sum).subspan(own.begin, own.elems())),
               "reduce-scatter");
        expect(test::same(rooted, rank == root ? sum : test::values(rank, elems)), "reduce");
        expect(test::same(copied, test::values(root, elems)), "broadcast");

        expect_ok(group->enqueue(seat.stream, seat.operation(Kind::all_gather, scattered), "back"));
        const auto sent = seat.of(test::values(rank, elems));
        const auto received = seat.of(std::vector<float>(elems));
        const std::vector<DeviceOperation> both = {
            seat.operation(Kind::send, sent, (rank + 1) % ranks),
            seat.operation(Kind::receive, received, (rank + ranks - 1) % ranks)};
        expect_ok(group->enqueue(seat.stream, both, "round the ring"));
        seat.read();
        expect(test::same(scattered, sum), "all-gather");
        expect(test::same(received, test::values((rank + ranks - 1) % ranks, elems)),
               "send and receive");
        expect_ok(group->close());
      });
      REQUIRE(test::fake_nccl::breaches().empty());
      REQUIRE(test::fake_nccl::live_communicators() == 0);
    }
  }
}

TEST_CASE("chunks cover a range, the last one with the rest") {
  for (const int ranks : {1, 2, 3, 7}) {
    for (const std::uint64_t elems : {0u, 1u, 6u, 50u}) {
      std::uint64_t next = 10;
      for (Rank r = 0; r < ranks; ++r) {
        const auto chunk = device_chunk({10, 10 + elems}, ranks, r);
        REQUIRE(chunk.begin == next);
        REQUIRE((r == ranks - 1 || chunk.elems() == elems / static_cast<unsigned>(ranks)));
        next = chunk.end;
      }
      REQUIRE(next == 10 + elems);
    }
  }
}

TEST_CASE("element types: all that NCCL has are summed, others copied and refused with a reason") {
  const test::FreshNccl fresh;
  test::run_seats(3, [](World& world, test::Seat& seat) {
    const auto group = test::make_group(world, seat).value();
    check_sum<float>(seat, *group);
    check_sum<double>(seat, *group);
    check_sum<Half>(seat, *group);
    check_sum<BFloat16>(seat, *group);
    check_sum<std::int8_t>(seat, *group);
    check_sum<std::int32_t>(seat, *group);
    check_sum<std::int64_t>(seat, *group);
    check_sum<std::uint8_t>(seat, *group);
    check_sum<std::uint32_t>(seat, *group);
    check_sum<std::uint64_t>(seat, *group);
    const auto data = seat.of(std::vector<std::int16_t>(5, static_cast<std::int16_t>(seat.rank)));
    const auto refused =
        group->enqueue(seat.stream, seat.operation(Kind::all_reduce, data), "sum of shorts");
    expect(refused.code() == ErrorCode::unavailable, "i16 refused");
    expect(refused.message().starts_with("sum of shorts -> NCCL does not reduce i16"), "{}",
           refused.message());
    expect_ok(group->enqueue(seat.stream, seat.operation(Kind::broadcast, data, 2), "copy"));
    auto mean = seat.operation(Kind::all_reduce, seat.of(test::values(0, 1)));
    mean.reduction = Reduction::mean;
    expect(group->enqueue(seat.stream, mean, "mean").code() == ErrorCode::invalid_argument,
           "mean refused");
    auto most = seat.operation(Kind::all_reduce, seat.of(test::values(seat.rank, 4)));
    most.reduction = Reduction::max;
    expect_ok(group->enqueue(seat.stream, most, "max"));
    seat.read();
    expect(data[0] == 2, "broadcast of i16");
    expect_ok(group->close());  // none of this has hurt it
  });
  REQUIRE(test::fake_nccl::breaches().empty());
}

TEST_CASE("what NCCL issues in the background is on the stream before the next thing is") {
  const test::FreshNccl fresh;
  for (Rank r = 0; r < 3; ++r) test::fake_nccl::set_faults(r, {.polls = 3 + 50 * r});
  test::run_seats(3, [](World& world, test::Seat& seat) {
    const auto group = test::make_group(world, seat).value();
    const auto data = seat.of(test::values(seat.rank, 100));
    const auto copy = seat.memory(400);
    for (int i = 0; i < 3; ++i) {
      expect_ok(group->enqueue(seat.stream, seat.operation(Kind::all_reduce, data), "sum"));
    }
    expect_ok(seat.device.copy(seat.stream, copy, std::as_bytes(data)));
    seat.read();
    expect(std::memcmp(copy.data(), data.data(), copy.size()) == 0, "the copy comes after it");
    expect_ok(group->close());
  });
  REQUIRE(test::fake_nccl::breaches().empty());
}

TEST_CASE("two ranks on one GPU, or two versions of NCCL, are refused by all before they meet") {
  const test::FreshNccl fresh;
  const auto refused = [](bool shared_gpu, const std::string& why) {
    test::run_seats(
        2,
        [&](World& world, test::Seat& seat) {
          const auto made = test::make_group(world, seat);
          expect(made.status().code() == ErrorCode::unavailable, "refused");
          expect(made.status().message().find(why) != std::string::npos, "{}",
                 made.status().message());
          expect_ok(world.progress().failure());  // the world goes on without NCCL
        },
        {}, shared_gpu);
  };
  refused(true, "ranks 0 and 1 are on one GPU");
  test::fake_nccl::set_faults(1, {.version = 22703});
  refused(false, "rank 1 has version 22703, rank 0 has 22809");
  for (const Rank r : {0, 1}) test::fake_nccl::set_faults(r, {.version = 23001});
  test::run_seats(
      2,
      [](World& world, test::Seat& seat) {  // which NCCL itself may allow
        const auto group = test::make_group(world, seat).value();
        check_sum<float>(seat, *group);
        expect_ok(group->close());
      },
      {}, true);
}

TEST_CASE("several groups side by side, closed in one order and destroyed in any") {
  const test::FreshNccl fresh;
  test::run_seats(3, [](World& world, test::Seat& seat) {
    std::optional first = test::make_group(world, seat).value();
    std::optional second = test::make_group(world, seat).value();
    std::optional third = test::make_group(world, seat).value();
    const auto other = seat.device.make_stream(StreamPriority::normal).value();
    const auto a = seat.of(test::values(seat.rank, 50));
    const auto b = seat.of(test::values(seat.rank, 50));
    for (int i = 0; i < 5; ++i) {
      const std::vector<float> own = test::values(seat.rank, 50);
      expect_ok((*first)->wait());
      expect_ok((*second)->wait());
      std::copy(own.begin(), own.end(), a.begin());
      std::copy(own.begin(), own.end(), b.begin());
      expect_ok((*first)->enqueue(seat.stream, seat.operation(Kind::all_reduce, a), "a"));
      expect_ok((*second)->enqueue(other, seat.operation(Kind::all_reduce, b), "b"));
    }
    expect_ok((*first)->close());
    expect(test::same(a, test::serial_sum(3, 50)), "first");
    check_sum<float>(seat, **second);  // goes on without the first
    expect_ok((*second)->close());
    expect(test::same(b, test::serial_sum(3, 50)), "second");
    // The third is idle and never closed; ranks drop them in different orders.
    if (seat.rank % 2 == 0) third.reset();
    second.reset();
    first.reset();
    third.reset();
    expect_ok(world.progress().failure());
  });
  REQUIRE(test::fake_nccl::breaches().empty());
  REQUIRE(test::fake_nccl::live_communicators() == 0);
}

}  // namespace
