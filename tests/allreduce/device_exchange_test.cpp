// SPDX-License-Identifier: Apache-2.0
// The exchange over fake GPUs, whose streams run late, and the fake NCCL: who forgets to order two
// streams gets other bits than the serial loop.
#include "allreduce/device_exchange.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <map>
#include <string>

#include "libdist/memory/reduce.h"
#include "libdist/plan.h"
#include "libdist/update.h"
#include "tests/allreduce/nccl_seats.h"
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

// Backward order, sizes that do not divide; buckets of 64 bytes and above.
std::vector<Parameter> parameters() {
  return {{"d", Elems(5), DType::f32, false},
          {"c", Elems(100)},
          {"b", Elems(7), DType::f32, false},
          {"a", Elems(333)}};
}

Options options(Duration timeout = 30s) {
  Options options;
  options.first_bucket_bytes = 64_B;
  options.bucket_bytes = 300_B;
  options.timeout = timeout;
  return options;
}

void run(int ranks, const std::function<void(World&, test::Seat&)>& body,
         const Options& chosen = options()) {
  test::run_seats(ranks, body, chosen);
}

float initial(std::uint64_t element) { return static_cast<float>(element % 13) - 6; }

float gradient(Rank rank, std::uint64_t step, std::uint64_t element) {
  return static_cast<float>(
             (element * 7919 + static_cast<std::uint64_t>(rank) * 104729 + step * 31) % 999) /
             700 -
         0.7f;
}

// The gradients of a rank as they lie in its arena.
std::vector<float> gradients_of(const Arena& arena, Rank rank, std::uint64_t step) {
  std::vector<float> all(arena.elems().value);
  for (std::size_t p = 0; p < arena.parameter_count(); ++p) {
    for (auto i = arena.range(p).begin; i < arena.range(p).end; ++i) {
      all[i] = gradient(rank, step, i);
    }
  }
  return all;
}

std::vector<float> initial_of(const Arena& arena) {
  std::vector<float> all(arena.elems().value);
  for (std::size_t p = 0; p < arena.parameter_count(); ++p) {
    for (auto i = arena.range(p).begin; i < arena.range(p).end; ++i) all[i] = initial(i);
  }
  return all;
}

struct Job {
  int ranks = 2;
  DeviceExchangeOptions how{};
  Update update = Momentum{.learning_rate = 0.1, .weight_decay = 1e-3};
  /// By rank; who has no more stands by.
  std::vector<std::uint64_t> steps = std::vector<std::uint64_t>(8, 4);

  std::uint64_t most() const { return *std::max_element(steps.begin(), steps.begin() + ranks); }
};

std::span<std::byte> bytes(std::vector<float>& values) {
  return std::as_writable_bytes(std::span(values));
}

// All steps of a job by one loop on the host: parameters at the beginning of each, and at the end;
// with the rule mean-gradient the means instead.
std::vector<std::vector<float>> serial(const Job& job) {
  const auto arena = Arena::create(parameters()).value();
  const auto buckets = make_buckets(arena, {300_B, 64_B});
  auto updater = Updater::create(job.update, layout_of(arena), DType::f32).value();
  auto now = initial_of(arena);
  std::vector<std::vector<float>> states = {now};
  for (std::uint64_t step = 0; step < job.most(); ++step) {
    std::vector<std::vector<float>> own;
    std::vector<float> none(now.size(), -0.0f);
    int contributors = 0;
    for (Rank r = 0; r < job.ranks; ++r) {
      const bool has = step < job.steps[static_cast<std::size_t>(r)];
      own.push_back(has ? gradients_of(arena, r, step) : none);
      contributors += has ? 1 : 0;
    }
    std::vector<float> sum(now.size());
    const auto add = [&](Range range, Rank first) {
      std::vector<std::span<const std::byte>> sources;
      for (Rank k = 0; k < job.ranks; ++k) {
        auto& from = own[static_cast<std::size_t>((first + k) % job.ranks)];
        sources.push_back(bytes(from).subspan(range.begin * 4, range.elems() * 4));
      }
      const std::array<std::span<std::byte>, 1> out = {
          bytes(sum).subspan(range.begin * 4, range.elems() * 4)};
      reduce_in_order(out, sources, DType::f32, Reduction::sum);
    };
    for (const Bucket& bucket : buckets) {
      for (int c = 0; job.how.ring && c < job.ranks; ++c) {
        add(chunk_range(bucket.range, job.ranks, c), first_summand(c));
      }
      if (!job.how.ring) add(bucket.range, 0);
    }
    if (!updater.updates_parameters()) {
      divide(bytes(sum), static_cast<std::uint64_t>(contributors), DType::f32);
      states.push_back(sum);
      continue;
    }
    std::vector<double> squares(updater.square_count());
    updater.add_squares(bytes(now), bytes(sum), 0, squares);
    updater.apply(bytes(now), bytes(sum), 0, {1.0 / contributors, step, squares});
    states.push_back(now);
  }
  return states;
}

// One rank's replica.
struct Replica {
  Replica(World& world, test::Seat& at, const Job& job)
      : seat(at),
        arena(Arena::create(parameters(), {.device = &at.device, .stream = at.stream}).value()),
        buckets(make_buckets(arena,
                             {world.options().bucket_bytes, world.options().first_bucket_bytes})),
        updater(
            DeviceUpdater::create(at.device, job.update, layout_of(arena), arena.dtype()).value()) {
    auto group = test::make_group(world, at).value();
    exchange =
        allreduce::make_device_exchange({world.progress(), world.operation_order(), world.trace(),
                                         world.options(), at.device, arena, buckets, updater},
                                        std::move(group), job.how)
            .value();
  }

  Range whole() const { return {0, arena.elems().value}; }

  // In the order of the program's stream; the host's copy stays until the end.
  void copy_in(std::span<std::byte> to, std::vector<float> values) {
    held.push_back(std::make_unique<std::vector<float>>(std::move(values)));
    expect_ok(seat.device.copy(seat.stream, to, bytes(*held.back())));
  }
  std::vector<float>& copy_out(std::span<const std::byte> from) {
    held.push_back(std::make_unique<std::vector<float>>(from.size() / sizeof(float)));
    expect_ok(seat.device.copy(seat.stream, bytes(*held.back()), from));
    return *held.back();
  }

  void begin() {
    // Others have something else there.
    auto first = initial_of(arena);
    if (seat.rank != 0) std::fill(first.begin(), first.end(), 99.0f);
    copy_in(arena.parameters(whole()), first);
    expect_ok(exchange->begin());
    seen.push_back(&copy_out(arena.parameters(whole())));
  }

  // A backward pass that reads the parameters until its end.
  void backward(std::uint64_t step) {
    const auto own = gradients_of(arena, seat.rank, step);
    for (std::size_t b = 0; b < buckets.size(); ++b) {
      const Range range = buckets[b].range;
      copy_in(arena.gradients(range), {own.begin() + static_cast<std::ptrdiff_t>(range.begin),
                                       own.begin() + static_cast<std::ptrdiff_t>(range.end)});
      exchange->start(b);
    }
    read_last.push_back(&copy_out(arena.parameters(whole())));
  }

  Result<StepReport> finish(std::uint64_t step) {
    StepReport report;
    report.step = step;
    DIST_TRY(exchange->finish(&report));
    const bool updates = updater.updates_parameters();
    seen.push_back(&copy_out(updates ? arena.parameters(whole()) : arena.gradients(whole())));
    return report;
  }

  // As RingStrategy::stand_by().
  bool stand_by(std::uint64_t step) {
    exchange->join();
    expect_ok(seat.device.fill(seat.stream, DType::f32, arena.gradients(whole()), -0.0));
    for (std::size_t b = 0; b < buckets.size(); ++b) exchange->start(b);
    return finish(step).value().contributors != 0;
  }

  test::Seat& seat;
  std::vector<std::unique_ptr<std::vector<float>>> held;
  Arena arena;
  std::vector<Bucket> buckets;
  DeviceUpdater updater;
  std::unique_ptr<Exchange> exchange;
  std::vector<std::vector<float>*> seen;       // at the beginning of each step, and at the end
  std::vector<std::vector<float>*> read_last;  // at the end of each backward pass
};

void expect_bits(const std::vector<float>& got, const std::vector<float>& wanted,
                 const std::string& what) {
  expect(std::memcmp(got.data(), wanted.data(), wanted.size() * sizeof(float)) == 0, what);
}

void train(const Job& job, const std::vector<std::vector<float>>& wanted,
           const std::function<void(const std::vector<float>&, const std::vector<float>&,
                                    const std::string&)>& check = expect_bits) {
  const test::FreshNccl fresh;
  run(job.ranks, [&](World& world, test::Seat& seat) {
    Replica replica(world, seat, job);
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
      const Job job{ranks, how};
      train(job, serial(job));
      const Job adam{ranks, how, Adam{.learning_rate = 0.1, .weight_decay = 1e-3}};
      if (ranks == 3) train(adam, serial(adam));
    }
  }
}

TEST_CASE("uneven data: the mean is over those who contribute, and all ends alike") {
  for (const auto& how : kHow) {
    INFO(fmt::format("placement {}, {} servers, ring {}", static_cast<int>(how.placement),
                     how.servers, how.ring));
    const Job job{4, how, Momentum{.learning_rate = 0.1}, {3, 0, 6, 4}};
    train(job, serial(job));
  }
}

TEST_CASE("updates that need norms agree to rounding") {
  const auto near = [](const std::vector<float>& got, const std::vector<float>& wanted,
                       const std::string& what) {
    for (std::size_t i = 0; i < wanted.size(); ++i) {
      expect(std::abs(got[i] - wanted[i]) <= 1e-5f * (1 + std::abs(wanted[i])), what);
    }
  };
  Update clipped = Sgd{.learning_rate = 0.1};
  clipped.clip_norm = 0.5;
  for (const auto& how : kHow) {
    for (const Update& update : {clipped, Update(Lars{.learning_rate = 1, .weight_decay = 0.1})}) {
      INFO(fmt::format("placement {}, {}", static_cast<int>(how.placement), describe(update)));
      const Job job{3, how, update, {2, 3, 1}};
      train(job, serial(job), near);
    }
  }
}

TEST_CASE("mean-gradient leaves the mean on every rank, and needs all of it there") {
  for (const bool ring : {false, true}) {
    const Job job{3, {kEverywhere, 0, ring}, MeanGradient{}, {2, 3, 1}};
    auto wanted = serial(job);
    train(job, wanted);
  }
  run(2, [](World& world, test::Seat& seat) {
    bool refused = false;
    try {
      Replica replica(world, seat, {2, {kSharded}, MeanGradient{}});
    } catch (const std::runtime_error& error) {
      refused = std::string(error.what()).find("mean-gradient") != std::string::npos;
    }
    expect(refused, "sharded means");
  });
}

TEST_CASE("a parameter is ready once it was awaited, in any order") {
  for (const auto& how : kHow) {
    const test::FreshNccl fresh;
    const Job job{3, how};
    const auto wanted = serial(job);
    run(3, [&](World& world, test::Seat& seat) {
      Replica replica(world, seat, job);
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
                 fmt::format("awaited too early: placement {}, ring {}, step {}, bucket at {}",
                             static_cast<int>(how.placement), how.ring, step, range.begin));
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
      run(ranks, [&](World& world, test::Seat& seat) {
        Replica replica(world, seat, {ranks, how});
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
      REQUIRE(next == Arena::create(parameters()).value().elems().value);
    }
  }
}

TEST_CASE("nobody waits within a step: two of them are enqueued before the GPU has begun") {
  for (const auto& how : kHow) {
    const test::FreshNccl fresh;
    const Job job{2, how};
    const auto wanted = serial(job);
    run(2, [&](World& world, test::Seat& seat) {
      Replica replica(world, seat, job);
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

TEST_CASE("bytes are those of a ring") {
  run(4, [](World& world, test::Seat& seat) {
    Replica replica(world, seat, {4, {kEverywhere}});
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
  run(
      ranks,
      [&](World& world, test::Seat& seat) {
        Replica replica(world, seat, {ranks, how});
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
      options(500ms));
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
    run(
        2,
        [&](World& world, test::Seat& seat) {
          Replica replica(world, seat, {2, how});
          replica.begin();
          replica.exchange->start(0);
          if (seat.rank == 0) replica.exchange->start(1);
          replica.exchange.reset();
          seat.read();
        },
        options(500ms));
    REQUIRE(test::fake_nccl::live_communicators() == 0);
    REQUIRE(test::fake_nccl::breaches().empty());
  }
}

}  // namespace
