// SPDX-License-Identifier: Apache-2.0
// A group ends in time and with a story, whatever NCCL does.
#include <atomic>
#include <thread>

#include "tests/allreduce/nccl_seats.h"
#include "tests/support/catch.h"

namespace {

using namespace dist;
using namespace std::chrono_literals;
using allreduce::DeviceGroup;
using allreduce::DeviceOperation;
using test::expect;
using test::expect_ok;
using test::fake_nccl::Faults;
using Kind = DeviceOperation::Kind;

Options soon(Duration timeout = 300ms) {
  Options options;
  options.timeout = timeout;
  options.connect_timeout = timeout;
  return options;
}

// All ranks call `body` until it fails; how each of them failed, and after how long.
struct End {
  Status status;
  Duration took{};
  Status world;  // what its Progress says
};
std::vector<End> ends_of(int ranks, const Options& options,
                         const std::function<Status(DeviceGroup&, test::Seat&)>& body) {
  std::vector<End> ends(static_cast<std::size_t>(ranks));
  test::run_seats(
      ranks,
      [&](World& world, test::Seat& seat) {
        const auto group = test::make_group(world, seat).value();
        auto& end = ends[static_cast<std::size_t>(seat.rank)];
        const auto began = Clock::now();
        for (int i = 0; i < 1000 && end.status.ok(); ++i) end.status = body(*group, seat);
        end.took = Clock::now() - began;
        end.world = world.progress().failure();
        seat.read();  // streams run dry
        expect(group->failure().message() == end.status.message(), "the first failure stays");
        const auto data = seat.of(test::values(0, 1));
        expect(!group->enqueue(seat.stream, seat.operation(Kind::all_reduce, data), "more").ok(),
               "a group that has failed");
        expect(!group->close().ok(), "close() of a group that has failed");
      },
      options);
  return ends;
}

Status sum_and_wait(DeviceGroup& group, test::Seat& seat) {
  const auto data = seat.of(test::values(seat.rank, 10));
  DIST_TRY(group.enqueue(seat.stream, seat.operation(Kind::all_reduce, data), "ring: bucket 7"));
  return group.wait();
}

TEST_CASE("a kernel that never ends: every rank ends in time and names it") {
  for (const int hangs_at : {0, 2}) {
    const test::FreshNccl fresh;
    test::fake_nccl::set_faults(1, {.hangs_at = hangs_at});
    const auto ends = ends_of(3, soon(), sum_and_wait);
    for (Rank r = 0; r < 3; ++r) {
      const End& end = ends[static_cast<std::size_t>(r)];
      INFO(end.status.message());
      // A rank may hear from the transport first that another one has left.
      REQUIRE(
          (end.status.code() == ErrorCode::timed_out || end.status.code() == ErrorCode::peer_lost));
      REQUIRE(end.status.message().starts_with(fmt::format("nccl, rank {} of 3", r)));
      REQUIRE(end.took < 5s);
      REQUIRE(!end.world.ok());
    }
    REQUIRE(std::any_of(ends.begin(), ends.end(), [](const End& end) {
      return end.status.message().find("ring: bucket 7 has not ended") != std::string::npos;
    }));
    REQUIRE(test::fake_nccl::breaches().empty());
    REQUIRE(test::fake_nccl::live_communicators() == 0);
  }
}

TEST_CASE("an operation that NCCL never issues") {
  const test::FreshNccl fresh;
  test::fake_nccl::set_faults(0, {.never_issued_at = 1});
  const auto ends = ends_of(2, soon(), sum_and_wait);
  REQUIRE(ends[0].status.code() == ErrorCode::timed_out);
  REQUIRE(ends[0].status.message().find("ring: bucket 7 -> launch: NCCL is not done") !=
          std::string::npos);
  REQUIRE(!ends[1].status.ok());
  REQUIRE(test::fake_nccl::live_communicators() == 0);
}

TEST_CASE("an asynchronous error ends the group long before the timeout") {
  const test::FreshNccl fresh;
  test::fake_nccl::set_faults(1, {.hangs_at = 1, .late_error_at = 1});
  auto ends = ends_of(2, soon(1500ms), sum_and_wait);
  INFO(ends[1].status.message());
  REQUIRE(ends[1].status.code() == ErrorCode::peer_lost);
  REQUIRE(ends[1].status.message().find("remote process exited (told by the fake)") !=
          std::string::npos);
  REQUIRE(ends[1].took < 1s);
}

TEST_CASE("an error that shows when nobody calls, between two operations") {
  const test::FreshNccl fresh;
  test::fake_nccl::set_faults(0, {.late_error_at = 0, .late_error_after = 50ms});
  test::run_seats(
      1,
      [](World& world, test::Seat& seat) {
        const auto group = test::make_group(world, seat).value();
        const auto data = seat.of(test::values(0, 3));
        expect_ok(group->enqueue(seat.stream, seat.operation(Kind::all_reduce, data), "sum"));
        expect_ok(group->wait());
        const auto until = Clock::now() + 5s;
        while (group->failure().ok() && Clock::now() < until) std::this_thread::sleep_for(1ms);
        expect(group->failure().code() == ErrorCode::peer_lost, "found by the watch");
      },
      soon(10s));
}

TEST_CASE("an abort that does not return is told, and nobody waits for it") {
  const test::FreshNccl fresh;
  test::fake_nccl::set_faults(1, {.hangs_at = 0, .refuses_abort = true});
  std::atomic<bool> told = false;
  Duration took{};
  test::run_seats(
      2,
      [&](World& world, test::Seat& seat) {
        const auto group = test::make_group(world, seat).value();
        const auto began = Clock::now();
        const auto failed = sum_and_wait(*group, seat);
        expect(!failed.ok(), "it hangs");
        if (seat.rank != 1) return;
        took = Clock::now() - began;
        told = failed.message().find("ncclCommAbort has not returned") != std::string::npos;
        test::fake_nccl::release();  // or the fake device could not end
      },
      soon());
  REQUIRE(told);
  REQUIRE(took < 5s);
}

TEST_CASE("a rank that does not come to the communicator, or cannot") {
  for (const Faults faults : {Faults{.init_hangs = true}, Faults{.init_fails = true}}) {
    const test::FreshNccl fresh;
    test::fake_nccl::set_faults(1, faults);
    std::vector<Status> ends(3);
    std::vector<Status> worlds(3);
    test::run_seats(
        3,
        [&](World& world, test::Seat& seat) {
          ends[static_cast<std::size_t>(seat.rank)] = test::make_group(world, seat).status();
          worlds[static_cast<std::size_t>(seat.rank)] = world.progress().failure();
        },
        soon(1s));
    for (Rank r = 0; r < 3; ++r) {
      const Status& end = ends[static_cast<std::size_t>(r)];
      INFO(end.message());
      REQUIRE(!end.ok());
      REQUIRE((faults.init_fails || end.code() == ErrorCode::timed_out));
      REQUIRE((!faults.init_fails || r != 1 || end.code() == ErrorCode::peer_lost));
    }
    REQUIRE(test::fake_nccl::live_communicators() == 0);
    REQUIRE(test::fake_nccl::breaches().empty());
  }
}

TEST_CASE("groups closed in different orders end by the deadline instead of hanging") {
  const test::FreshNccl fresh;
  std::vector<Duration> took(2);
  test::run_seats(
      2,
      [&](World& world, test::Seat& seat) {
        const auto first = test::make_group(world, seat).value();
        const auto second = test::make_group(world, seat).value();
        const auto began = Clock::now();
        const auto closed = seat.rank == 0 ? first->close() : second->close();
        took[static_cast<std::size_t>(seat.rank)] = Clock::now() - began;
        expect(!closed.ok(), "one of the two waits for the other");
      },
      soon());
  for (const Duration each : took) REQUIRE(each < 5s);
  REQUIRE(test::fake_nccl::live_communicators() == 0);
}

TEST_CASE("aborts that race with operations leave no communicator in use") {
  for (int round = 0; round < 8; ++round) {
    const test::FreshNccl fresh;
    for (const Rank r : {0, 1})
      test::fake_nccl::set_faults(r, {.polls = round % 4, .slow_calls = true});
    test::run_seats(
        2,
        [&](World& world, test::Seat& seat) {
          const auto group = test::make_group(world, seat).value();
          std::jthread killer([&] {
            std::this_thread::sleep_for(std::chrono::microseconds(200 * round));
            if (seat.rank == 0) group->abort(Status::cancelled("by the test"));
          });
          const auto data = seat.of(test::values(seat.rank, 100));
          Status status;
          for (int i = 1; status.ok(); ++i) {
            if (i % 20 == 0) status = group->wait();  // or the streams lag far behind
            if (!status.ok()) break;
            status = group->enqueue(seat.stream, seat.operation(Kind::all_reduce, data), "sum");
          }
          killer.join();
          seat.read();
          expect(seat.rank != 0 || status.message().find("by the test") != std::string::npos, "{}",
                 status.message());
        },
        soon());
    REQUIRE(test::fake_nccl::breaches().empty());
    REQUIRE(test::fake_nccl::live_communicators() == 0);
  }
}

TEST_CASE("a group that is destroyed half-way lets the stream run dry and fails the world") {
  const test::FreshNccl fresh;
  test::run_seats(
      2,
      [](World& world, test::Seat& seat) {
        auto group = test::make_group(world, seat).value();
        const auto data = seat.of(test::values(seat.rank, 100));
        if (seat.rank == 0) {
          expect_ok(group->enqueue(seat.stream, seat.operation(Kind::all_reduce, data), "sum"));
        }
        group.reset();
        seat.read();
        expect(world.progress().failure().ok() == (seat.rank != 0), "only where work was lost");
      },
      soon(20s));
  REQUIRE(test::fake_nccl::breaches().empty());
}

TEST_CASE("a world that has failed takes its groups along") {
  const test::FreshNccl fresh;
  test::run_seats(
      1,
      [](World& world, test::Seat& seat) {
        const auto group = test::make_group(world, seat).value();
        world.progress().cancel(Status::peer_lost("rank 5 is gone"));
        const auto until = Clock::now() + 5s;
        while (group->failure().ok() && Clock::now() < until) std::this_thread::sleep_for(1ms);
        expect(group->failure().message().find("rank 5 is gone") != std::string::npos, "{}",
               group->failure().message());
      },
      soon(20s));
}

}  // namespace
