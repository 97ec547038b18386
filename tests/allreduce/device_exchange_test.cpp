// SPDX-License-Identifier: Apache-2.0
// The exchange over fake GPUs, whose streams run late, and the fake NCCL: who forgets to order two
// streams gets other bits than the serial loop.
#include "allreduce/device_exchange.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <string>
#include <thread>

#include "allreduce/device_timeline.h"
#include "libdist/memory/reduce.h"
#include "libdist/plan.h"
#include "libdist/update.h"
#include "tests/allreduce/device_replica.h"
#include "tests/support/catch.h"

namespace {

using namespace dist;
using namespace std::chrono_literals;
using allreduce::DeviceExchangeOptions;
using allreduce::DevicePlacement;
using allreduce::Exchange;
using test::expect;
using test::expect_ok;

constexpr auto kEverywhere = DevicePlacement::everywhere;
constexpr auto kSharded = DevicePlacement::sharded;
constexpr auto kOwners = DevicePlacement::owners;

void expect_bits(const std::vector<float>& got, const std::vector<float>& wanted,
                 const std::string& what) {
  expect(std::memcmp(got.data(), wanted.data(), wanted.size() * sizeof(float)) == 0, "{}", what);
}

void train(const test::Job& job, const std::vector<std::vector<float>>& wanted,
           const std::function<void(const std::vector<float>&, const std::vector<float>&,
                                    const std::string&)>& check = expect_bits) {
  const test::FreshNccl fresh;
  test::run_small(job.ranks, [&](World& world, test::Seat& seat) {
    test::Replica replica(world, seat, job);
    replica.begin();
    std::uint64_t step = 0;
    for (; step < job.steps[static_cast<std::size_t>(seat.rank)]; ++step) {
      replica.backward(step);
      expect_ok(replica.finish(step).status());
    }
    while (replica.stand_by(step)) ++step;
    expect_ok(replica.exchange->end());
    seat.read();
    for (std::size_t s = 0; s < wanted.size(); ++s) {
      check(*replica.seen[s], wanted[s], fmt::format("rank {}, step {}", seat.rank, s));
    }
    if (replica.updater.updates_parameters()) {
      expect_bits(*replica.seen.back(), *replica.seen[wanted.size() - 1], "a step of nobody");
    }
    for (std::size_t s = 0; s < replica.read_last.size(); ++s) {
      if (!replica.updater.updates_parameters()) break;
      check(*replica.read_last[s], wanted[s], "parameters change within the backward pass");
    }
  });
  REQUIRE(test::fake_nccl::breaches().empty());
  REQUIRE(test::fake_nccl::live_communicators() == 0);
}

const std::vector<DeviceExchangeOptions> kHow = {
    {kEverywhere}, {kEverywhere, 0, true}, {kSharded}, {kOwners}, {kOwners, 1}};

TEST_CASE("every placement has the bits of the serial loop, whatever the number of ranks") {
  for (const int ranks : {1, 2, 3, 4, 8}) {
    for (const auto& how : kHow) {
      INFO(fmt::format("{} ranks, placement {}, {} servers, ring {}", ranks,
                       static_cast<int>(how.placement), how.servers, how.ring));
      const test::Job job{ranks, how};
      train(job, test::serial(job));
      const test::Job adam{ranks, how, Adam{.learning_rate = 0.1, .weight_decay = 1e-3}};
      if (ranks == 3) train(adam, test::serial(adam));
    }
  }
}

TEST_CASE("uneven data: the mean is over those who contribute, and all ends alike") {
  for (const auto& how : kHow) {
    INFO(fmt::format("placement {}, {} servers, ring {}", static_cast<int>(how.placement),
                     how.servers, how.ring));
    const test::Job job{4, how, Momentum{.learning_rate = 0.1}, {3, 0, 6, 4}};
    train(job, test::serial(job));
  }
}

TEST_CASE("updates that need norms agree to rounding") {
  const auto near = [](const std::vector<float>& got, const std::vector<float>& wanted,
                       const std::string& what) {
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      expect(std::abs(got[i] - wanted[i]) <= 1e-5f * (1 + std::abs(wanted[i])), "{}", what);
    }
  };
  Update clipped = Sgd{.learning_rate = 0.1};
  clipped.clip_norm = 0.5;
  for (const auto& how : kHow) {
    for (const Update& update : {clipped, Update(Lars{.learning_rate = 1, .weight_decay = 0.1})}) {
      INFO(fmt::format("placement {}, {}", static_cast<int>(how.placement), describe(update)));
      const test::Job job{3, how, update, {2, 3, 1}};
      train(job, test::serial(job), near);
    }
  }
}

TEST_CASE("mean-gradient leaves the mean on every rank, and needs all of it there") {
  for (const bool ring : {false, true}) {
    const test::Job job{3, {kEverywhere, 0, ring}, MeanGradient{}, {2, 3, 1}};
    auto wanted = test::serial(job);
    train(job, wanted);
  }
  test::run_small(2, [](World& world, test::Seat& seat) {
    bool refused = false;
    try {
      test::Replica replica(world, seat, {2, {kSharded}, MeanGradient{}});
    } catch (const std::runtime_error& error) {
      refused = std::string(error.what()).find("mean-gradient") != std::string::npos;
    }
    expect(refused, "sharded means");
  });
}

TEST_CASE("a parameter is ready once it was awaited, in any order") {
  for (const auto& how : kHow) {
    const test::FreshNccl fresh;
    const test::Job job{3, how};
    const auto wanted = test::serial(job);
    test::run_small(3, [&](World& world, test::Seat& seat) {
      test::Replica replica(world, seat, job);
      replica.begin();
      for (std::uint64_t step = 0; step < 3; ++step) {
        replica.backward(step);
        StepReport report;
        report.step = step;
        std::vector<std::pair<Range, std::vector<float>*>> parts;
        for (std::size_t b = replica.buckets.size(); b-- > 0;) {
          expect_ok(replica.exchange->await(b, &report));
          expect_ok(replica.exchange->await(b, &report));
          const Range range = replica.buckets[b].range;
          parts.emplace_back(range, &replica.copy_out(replica.arena.parameters(range)));
        }
        expect_ok(replica.exchange->finish(&report));
        seat.read();
        for (const auto& [range, part] : parts) {
          expect(std::equal(part->begin(), part->end(),
                            wanted[step + 1].begin() + static_cast<std::ptrdiff_t>(range.begin)),
                 "awaited too early: placement {}, ring {}, step {}, bucket at {}",
                 static_cast<int>(how.placement), how.ring, step, range.begin);
        }
      }
      expect_ok(replica.exchange->end());
    });
    REQUIRE(test::fake_nccl::breaches().empty());
  }
}

TEST_CASE("the ranges that ranks update and save are each bucket, once") {
  for (const int ranks : {1, 3, 4}) {
    for (const auto& how : kHow) {
      std::vector<std::vector<Range>> saved(static_cast<std::size_t>(ranks));
      test::run_small(ranks, [&](World& world, test::Seat& seat) {
        test::Replica replica(world, seat, {ranks, how});
        for (const Bucket& bucket : replica.buckets) {
          const Range part = replica.exchange->saved(bucket.range);
          const Range updated = replica.exchange->updated(bucket.range);
          expect(intersect(part, updated) == part || part.empty(), "saves what it updates");
          saved[static_cast<std::size_t>(seat.rank)].push_back(part);
        }
        expect_ok(replica.exchange->end());
      });
      std::vector<Range> all;
      for (const auto& ranges : saved) {
        for (const Range range : ranges) {
          if (!range.empty()) all.push_back(range);
        }
      }
      std::sort(all.begin(), all.end(), [](Range a, Range b) { return a.begin < b.begin; });
      std::uint64_t next = 0;
      for (const Range range : all) {
        REQUIRE(range.begin == next);
        next = range.end;
      }
      REQUIRE(next == Arena::create(test::parameters()).value().elems().value);
    }
  }
}

TEST_CASE("nobody waits within a step: two of them are enqueued before the GPU has begun") {
  for (const auto& how : kHow) {
    const test::FreshNccl fresh;
    const test::Job job{2, how};
    const auto wanted = test::serial(job);
    test::run_small(2, [&](World& world, test::Seat& seat) {
      test::Replica replica(world, seat, job);
      replica.begin();
      seat.read();
      seat.device.hold(seat.stream);
      for (std::uint64_t step = 0; step < 2; ++step) {
        replica.backward(step);
        const auto report = replica.finish(step).value();
        expect(report.contributors == 2, "what is not known is taken to be all");
      }
      seat.device.let_go(seat.stream);
      seat.read();
      expect_bits(*replica.seen[2], wanted[2], "two steps");
      replica.backward(2);
      const auto report = replica.finish(2).value();
      expect(report.contributors == 2 && report.communication_busy > 0ns &&
                 report.communication_exposed > 0ns && report.bytes_sent > 0_B,
             "times of a step that is over");
      expect_ok(replica.exchange->end());
    });
  }
}

TEST_CASE("who stands by knows its own step's contributors, however far the host has run ahead") {
  const test::FreshNccl fresh;
  test::run_small(2, [](World& world, test::Seat& seat) {
    test::Replica replica(world, seat, {2, {kEverywhere}, MeanGradient{}});
    replica.begin();
    seat.read();
    seat.device.hold(seat.stream);
    constexpr std::uint64_t kSteps = 2 * allreduce::DeviceTimeline::kMostSteps;
    for (std::uint64_t step = 0; step < kSteps; ++step) {
      replica.backward(step);
      expect_ok(replica.finish(step).status());
    }
    std::jthread later([&] {
      std::this_thread::sleep_for(20ms);
      seat.device.let_go(seat.stream);
    });
    expect(!replica.stand_by(kSteps), "nobody contributes any more");
    expect_ok(replica.exchange->end());
  });
}

TEST_CASE("bytes are those of a ring") {
  test::run_small(4, [](World& world, test::Seat& seat) {
    test::Replica replica(world, seat, {4, {kEverywhere}});
    replica.begin();
    replica.backward(0);
    const auto elems = replica.arena.elems().value;
    expect(replica.finish(0).value().bytes_sent == Bytes(elems * 4 / 4 * 2 * 3), "2 (n - 1) / n");
    expect_ok(replica.exchange->end());
  });
}

// How the ranks end when something goes wrong at one of them.
std::vector<Status> failures(int ranks, const std::function<void(test::Seat&)>& spoil,
                             DeviceExchangeOptions how = {}) {
  std::vector<Status> ends(static_cast<std::size_t>(ranks));
  test::run_small(
      ranks,
      [&](World& world, test::Seat& seat) {
        test::Replica replica(world, seat, {ranks, how});
        replica.begin();
        seat.read();
        spoil(seat);
        auto& end = ends[static_cast<std::size_t>(seat.rank)];
        const auto began = Clock::now();
        for (std::uint64_t step = 0; step < 1000 && end.ok(); ++step) {
          replica.backward(step);
          end = replica.finish(step).status();
          seat.read();  // as a program that looks at its loss; the stream runs dry
        }
        expect(Clock::now() - began < 10s, "in time");
        replica.exchange.reset();
        seat.read();
      },
      test::small_buckets(500ms));
  return ends;
}

TEST_CASE("a collective that hangs ends the step on all ranks, and says which") {
  for (const auto& how : kHow) {
    const test::FreshNccl fresh;
    test::fake_nccl::set_faults(1, {.hangs_at = 3});
    const auto ends = failures(
        2, [](test::Seat&) {}, how);
    for (const Status& end : ends) {
      INFO(end.message());
      REQUIRE(!end.ok());
      REQUIRE(end.message().starts_with("nccl, rank "));
    }
    REQUIRE(test::fake_nccl::live_communicators() == 0);
    REQUIRE(test::fake_nccl::breaches().empty());
  }
}

TEST_CASE("a device that fails on one rank ends the others too") {
  for (const char* operation : {"record", "wait", "fill", "update"}) {
    const test::FreshNccl fresh;
    const auto ends = failures(2, [&](test::Seat& seat) {
      if (seat.rank == 0) seat.device.fail(operation, Status::resource("broken"), 5);
    });
    INFO(fmt::format("{}: {} / {}", operation, ends[0].message(), ends[1].message()));
    REQUIRE(ends[0].message().find("broken") != std::string::npos);
    REQUIRE(!ends[1].ok());
  }
}

TEST_CASE("an exchange that goes in the middle of a step leaves the arena alone") {
  for (const auto& how : kHow) {
    const test::FreshNccl fresh;
    test::run_small(
        2,
        [&](World& world, test::Seat& seat) {
          test::Replica replica(world, seat, {2, how});
          replica.begin();
          replica.exchange->start(0);
          if (seat.rank == 0) replica.exchange->start(1);
          replica.exchange.reset();
          seat.read();
        },
        test::small_buckets(500ms));
    REQUIRE(test::fake_nccl::live_communicators() == 0);
    REQUIRE(test::fake_nccl::breaches().empty());
  }
}

}  // namespace
