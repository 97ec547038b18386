// SPDX-License-Identifier: Apache-2.0
// The executor over a hostile in-memory network in one thread, and over shared memory with ranks as
// threads: equal to the serial sum in plan order, to the bit.
#include "allreduce/executor.h"

#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

#include "allreduce/doubling_plan.h"
#include "allreduce/ring_plan.h"
#include "allreduce/tree_plan.h"
#include "libdist/trace.h"
#include "tests/allreduce/plan_interpreter.h"
#include "tests/support/catch.h"
#include "tests/support/memory_transport.h"
#include "tests/support/ranks.h"

namespace {

using namespace dist;
using allreduce::AllReduceOptions;
using allreduce::Executor;
using test::MemoryNetwork;

// Numbers whose float sum depends on the order.
template <typename T>
std::vector<T> uneven(std::size_t n, Rank rank) {
  std::vector<T> values(n);
  for (std::size_t i = 0; i < n; ++i) {
    const auto x = static_cast<T>((i * 7919 + static_cast<std::size_t>(rank) * 104729) % 1000);
    values[i] = (x - 500) / 3 * (i % 3 == 0 ? T(1e-3) : T(1e3));
  }
  return values;
}

// The promise of libdist/plan.h, computed serially.
template <typename T>
std::vector<T> sum_in_plan_order(std::size_t n, int ranks) {
  std::vector<std::vector<T>> all;
  for (Rank r = 0; r < ranks; ++r) all.push_back(uneven<T>(n, r));
  std::vector<T> sum(n);
  for (int c = 0; c < ranks; ++c) {
    const Range chunk = chunk_range({0, n}, ranks, c);
    for (auto i = chunk.begin; i < chunk.end; ++i) {
      sum[i] = all[static_cast<std::size_t>(first_summand(c))][i];
      for (int k = 1; k < ranks; ++k) sum[i] += all[static_cast<std::size_t>((c + k) % ranks)][i];
    }
  }
  return sum;
}

template <typename T>
AllReduceOptions options(std::vector<T>& data, Rank rank, int ranks, std::uint64_t segment_bytes) {
  return {.data = std::as_writable_bytes(std::span(data)),
          .dtype = dtype_of<T>,
          .rank = rank,
          .ranks = ranks,
          .segment_bytes = segment_bytes,
          .label = "ring: bucket 7"};
}

// Advances all tasks in one thread, with the network's events in between, until all have finished
// or one has failed. Returns the failure.
Status drive(std::vector<std::unique_ptr<Task>>& tasks, MemoryNetwork& network, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<bool> done;
  for (const auto& task : tasks) done.push_back(task == nullptr);
  for (int idle = 0; idle < 1000;) {
    const auto r = random() % tasks.size();
    if (!done[r]) {
      const auto result = tasks[r]->advance(network.endpoint(static_cast<Rank>(r)));
      DIST_TRY(result);
      done[r] = *result == Advance::finished;
      if (*result != Advance::idle) idle = 0;
    }
    bool happened = false;
    for (auto events = random() % 4; events > 0; --events) happened |= network.step();
    idle = happened ? 0 : idle + 1;
    if (std::find(done.begin(), done.end(), false) == done.end()) return {};
  }
  return Status::timed_out("nothing moves");
}

template <typename T>
void check_hostile(int ranks, std::size_t elems, std::uint64_t segment_bytes, unsigned seed) {
  INFO(ranks << " ranks, " << elems << " elements, segments of " << segment_bytes << " B, seed "
             << seed);
  MemoryNetwork network(ranks, seed);
  Trace trace(0, false);
  std::vector<std::vector<T>> data;
  for (Rank r = 0; r < ranks; ++r) data.push_back(uneven<T>(elems, r));
  std::vector<std::unique_ptr<Task>> tasks;
  for (Rank r = 0; r < ranks; ++r) {
    tasks.push_back(allreduce::make_ring_all_reduce(
        options(data[static_cast<std::size_t>(r)], r, ranks, segment_bytes), trace));
  }
  REQUIRE_OK(drive(tasks, network, seed));
  REQUIRE(network.breaches() == std::vector<std::string>());
  REQUIRE(data == std::vector(static_cast<std::size_t>(ranks), sum_in_plan_order<T>(elems, ranks)));
}

TEST_CASE("exact over a hostile network, with memory in flight left alone") {
  for (const int ranks : {1, 2, 3, 4, 5, 8}) {
    for (std::size_t elems = 0; elems <= 40; ++elems) check_hostile<float>(ranks, elems, 4, 1);
    for (const std::uint64_t segment_bytes : {1, 8, 12, 100, 100000}) {
      for (unsigned seed = 0; seed < 5; ++seed) {
        check_hostile<float>(ranks, 97, segment_bytes, seed);
        check_hostile<double>(ranks, 97, segment_bytes, seed);
      }
    }
  }
}

TEST_CASE("a broadcast gives all ranks rank 0's bits over a hostile network") {
  for (const int ranks : {1, 2, 3, 8}) {
    for (const std::size_t elems : {0, 1, 97, 1000}) {
      MemoryNetwork network(ranks, 5);
      Trace trace(0, false);
      std::vector<std::vector<float>> data;
      for (Rank r = 0; r < ranks; ++r) data.push_back(uneven<float>(elems, r));
      std::vector<std::unique_ptr<Task>> tasks;
      for (Rank r = 0; r < ranks; ++r) {
        tasks.push_back(allreduce::make_ring_broadcast(
            options(data[static_cast<std::size_t>(r)], r, ranks, 40), trace));
      }
      REQUIRE_OK(drive(tasks, network, 6));
      REQUIRE(network.breaches() == std::vector<std::string>());
      REQUIRE(data == std::vector(static_cast<std::size_t>(ranks), uneven<float>(elems, 0)));
    }
  }
}

// One collective over a hostile network among `ranks` of twice as many endpoints, in reverse order:
// integers are exact in any order, so each rank's data at the end is known. `make(options)` gives
// a rank's task, `expected(rank, i)` its element i at the end, or -1 where that does not matter.
template <typename Make, typename Expected>
void check_members(int ranks, std::size_t elems, unsigned seed, const Make& make,
                   const Expected& expected) {
  MemoryNetwork network(2 * ranks, seed);
  Trace trace(0, false);
  const auto member = [&](Rank r) { return 2 * ranks - 1 - 2 * r; };
  auto members = std::make_shared<std::vector<Rank>>();
  std::vector<std::vector<std::int32_t>> data;
  for (Rank r = 0; r < ranks; ++r) {
    members->push_back(member(r));
    auto& mine = data.emplace_back(elems);
    for (std::size_t i = 0; i < elems; ++i) mine[i] = (1 << r) + 1000 * static_cast<int>(i);
  }
  std::vector<std::unique_ptr<Task>> tasks(2 * static_cast<std::size_t>(ranks));
  for (Rank r = 0; r < ranks; ++r) {
    auto o = options(data[static_cast<std::size_t>(r)], r, ranks, 28);
    o.members = members;
    tasks[static_cast<std::size_t>(member(r))] = make(std::move(o), trace);
  }
  REQUIRE_OK(drive(tasks, network, seed));
  REQUIRE(network.breaches() == std::vector<std::string>());
  for (Rank r = 0; r < ranks; ++r) {
    for (std::size_t i = 0; i < elems; ++i) {
      const int value = expected(r, i);
      if (value >= 0) REQUIRE(data[static_cast<std::size_t>(r)][i] == value);
    }
  }
}

TEST_CASE("every collective among some ranks over a hostile network") {
  using namespace dist::allreduce;
  for (const int ranks : {1, 2, 3, 6, 8}) {
    for (const std::size_t elems : {0, 1, 5, 97}) {
      const Rank root = ranks / 2;
      const unsigned seed = static_cast<unsigned>(ranks) + static_cast<unsigned>(elems);
      INFO(ranks << " ranks, " << elems << " elements");
      const auto own = [](Rank r, std::size_t i) { return (1 << r) + 1000 * static_cast<int>(i); };
      const auto sum = [&](std::size_t i) {
        return (1 << ranks) - 1 + 1000 * ranks * static_cast<int>(i);
      };
      const auto chunk_of = [&](std::size_t i) {
        int c = 0;
        while (i >= chunk_range({0, elems}, ranks, c).end) ++c;
        return c;
      };
      for (const auto algorithm :
           {Algorithm::ring, Algorithm::doubling, Algorithm::halving, Algorithm::tree}) {
        INFO(name_of(algorithm));
        check_members(
            ranks, elems, seed,
            [&](AllReduceOptions o, Trace& t) {
              return make_all_reduce(algorithm, std::move(o), t);
            },
            [&](Rank, std::size_t i) { return sum(i); });
      }
      check_members(ranks, elems, seed, make_reduce_scatter,
                    [&](Rank r, std::size_t i) { return chunk_of(i) == r ? sum(i) : -1; });
      check_members(ranks, elems, seed, make_all_gather,
                    [&](Rank, std::size_t i) { return own(chunk_of(i), i); });
      for (const Shape shape : {Shape::tree, Shape::chain}) {
        check_members(
            ranks, elems, seed,
            [&](AllReduceOptions o, Trace& t) {
              return make_broadcast(shape, root, std::move(o), t);
            },
            [&](Rank, std::size_t i) { return own(root, i); });
        check_members(
            ranks, elems, seed,
            [&](AllReduceOptions o, Trace& t) { return make_reduce(shape, root, std::move(o), t); },
            [&](Rank r, std::size_t i) { return r == root ? sum(i) : -1; });
      }
    }
  }
}

using MakePlan = Plan (*)(Rank rank, int ranks, std::uint64_t elems);

// All ranks' data after an all-reduce over a hostile network.
std::vector<std::vector<float>> all_reduced(MakePlan make, std::vector<std::vector<float>> data,
                                            Reduction reduction, unsigned seed) {
  const int ranks = static_cast<int>(data.size());
  MemoryNetwork network(ranks, seed);
  Trace trace(0, false);
  std::vector<std::unique_ptr<Task>> tasks;
  for (Rank r = 0; r < ranks; ++r) {
    auto& mine = data[static_cast<std::size_t>(r)];
    auto o = options(mine, r, ranks, 20);
    o.reduction = reduction;
    tasks.push_back(std::make_unique<Executor>(make(r, ranks, mine.size()), std::move(o), trace));
  }
  REQUIRE_OK(drive(tasks, network, seed));
  REQUIRE(network.breaches() == std::vector<std::string>());
  return data;
}

TEST_CASE("the bits are those of the plan run serially, and the same on every rank") {
  for (const MakePlan make :
       {allreduce::ring_all_reduce_plan, allreduce::doubling_all_reduce_plan,
        allreduce::halving_all_reduce_plan, allreduce::tree_all_reduce_plan}) {
    for (const int ranks : {2, 3, 5, 6, 8}) {
      for (const std::uint64_t elems : {1, 97}) {
        std::vector<std::vector<float>> data;
        for (Rank r = 0; r < ranks; ++r) data.push_back(uneven<float>(elems, r));
        auto serial = data;
        REQUIRE(
            test::run_plans(test::plans_of(ranks, [&](Rank r) { return make(r, ranks, elems); }),
                            &serial, std::plus<>()) == "");
        const auto reduced = all_reduced(make, data, Reduction::sum, 3);
        REQUIRE(reduced == serial);
        REQUIRE(reduced == std::vector(static_cast<std::size_t>(ranks), reduced.front()));
      }
      // Zeros of both signs: the smaller of the two is a matter of order.
      std::vector<std::vector<float>> zeros(static_cast<std::size_t>(ranks));
      for (unsigned r = 0; r < zeros.size(); ++r) {
        for (unsigned i = 0; i < 64; ++i) zeros[r].push_back((i * 5 >> r & 1) != 0 ? -0.0f : 0.0f);
      }
      for (const Reduction reduction : {Reduction::min, Reduction::max}) {
        const auto reduced = all_reduced(make, zeros, reduction, 4);
        for (const auto& mine : reduced) {
          REQUIRE(std::memcmp(mine.data(), reduced[0].data(), mine.size() * sizeof(float)) == 0);
        }
      }
    }
  }
}

// Not a ring: both ranks swap everything at once and add it, then rank 1 hands its first half on.
TEST_CASE("any plan: a send and a reduction of the same elements in one round") {
  for (unsigned seed = 0; seed < 20; ++seed) {
    MemoryNetwork network(2, seed);
    Trace trace(0, false);
    std::vector<std::vector<float>> data{std::vector<float>(20, 1), std::vector<float>(20, 2)};
    std::vector<std::unique_ptr<Task>> tasks;
    for (Rank r = 0; r < 2; ++r) {
      const Range all{0, 20};
      const Range none{};
      Plan plan{20, {{1 - r, all, 1 - r, all, Action::reduce}}};
      plan.rounds.push_back({1 - r, r == 1 ? Range{0, 10} : none, 1 - r,
                             r == 0 ? Range{0, 10} : none, Action::reduce});
      tasks.push_back(std::make_unique<Executor>(
          plan, options(data[static_cast<std::size_t>(r)], r, 2, 12), trace));
    }
    REQUIRE_OK(drive(tasks, network, seed));
    REQUIRE(network.breaches() == std::vector<std::string>());
    std::vector<float> first(20, 3);
    std::fill_n(first.begin(), 10, 6.0f);
    REQUIRE(data[0] == first);
    REQUIRE(data[1] == std::vector<float>(20, 3));
  }
}

TEST_CASE("any plan: a copy over elements that are still to be reduced") {
  for (unsigned seed = 0; seed < 20; ++seed) {
    MemoryNetwork network(2, seed);
    Trace trace(0, false);
    std::vector<std::vector<float>> data{std::vector<float>(6, 1), std::vector<float>(6, 2)};
    std::vector<std::unique_ptr<Task>> tasks;
    for (Rank r = 0; r < 2; ++r) {
      const Range sent = r == 1 ? Range{0, 6} : Range{};
      const Range received = r == 0 ? Range{0, 6} : Range{};
      const Plan plan{6,
                      {{1 - r, sent, 1 - r, received, Action::reduce},
                       {1 - r, sent, 1 - r, received, Action::copy}}};
      tasks.push_back(std::make_unique<Executor>(
          plan, options(data[static_cast<std::size_t>(r)], r, 2, 8), trace));
    }
    REQUIRE_OK(drive(tasks, network, seed));
    REQUIRE(network.breaches() == std::vector<std::string>());
    REQUIRE(data[0] == std::vector<float>(6, 2));
  }
}

TEST_CASE("a failure tells label, round and peer") {
  MemoryNetwork network(3, 1);
  network.cut(1, 2);
  Trace trace(0, false);
  std::vector<std::vector<float>> data(3, std::vector<float>(30, 1));
  std::vector<std::unique_ptr<Task>> tasks;
  for (Rank r = 0; r < 3; ++r) {
    tasks.push_back(allreduce::make_ring_all_reduce(
        options(data[static_cast<std::size_t>(r)], r, 3, 8), trace));
  }
  const Status failure = drive(tasks, network, 1);
  REQUIRE(failure.code() == ErrorCode::peer_lost);
  REQUIRE(failure.message() ==
          "ring: bucket 7 -> round 0 -> receive from rank 1 -> memory: the link is cut");
}

TEST_CASE("a task says whom it waits for") {
  MemoryNetwork network(3, 1);
  Trace trace(0, false);
  std::vector<float> data(30, 1);
  const auto task = allreduce::make_ring_all_reduce(options(data, 1, 3, 8), trace);
  REQUIRE_OK(task->advance(network.endpoint(1)));
  REQUIRE(task->waits_for() == "ring: bucket 7, round 0: receive from rank 0");
}

TEST_CASE("traces name the rounds and count the bytes") {
  MemoryNetwork network(2, 1);
  std::vector<std::unique_ptr<Trace>> traces;
  std::vector<std::vector<float>> data(2, std::vector<float>(16, 1));
  std::vector<std::unique_ptr<Task>> tasks;
  for (Rank r = 0; r < 2; ++r) {
    traces.push_back(std::make_unique<Trace>(r, true));
    tasks.push_back(allreduce::make_ring_all_reduce(
        options(data[static_cast<std::size_t>(r)], r, 2, 8), *traces.back()));
  }
  REQUIRE_OK(drive(tasks, network, 1));
  const auto path = std::filesystem::temp_directory_path() /
                    ("executor-test-" + std::to_string(getpid()) + ".json");
  REQUIRE_OK(traces[0]->write(path.string()));
  std::ifstream file(path);
  const std::string text(std::istreambuf_iterator<char>(file), {});
  std::filesystem::remove(path);
  for (const auto* name : {R"("cat":"send","name":"ring: bucket 7, round 1")",
                           R"("cat":"receive","name":"ring: bucket 7, round 0")",
                           R"("cat":"reduce","name":"ring: bucket 7")"}) {
    INFO(name);
    CHECK(text.find(name) != std::string::npos);
  }
}

template <typename T>
void check_shm(int ranks, std::size_t elems, std::uint64_t segment_bytes) {
  const auto expected = sum_in_plan_order<T>(elems, ranks);
  std::atomic<int> right{0};
  test::run_ranks("shm", ranks, [&](World& world) {
    auto data = uneven<T>(elems, world.rank());
    test::expect_ok(world.progress().run(allreduce::make_ring_all_reduce(
        options(data, world.rank(), ranks, segment_bytes), world.trace())));
    right += data == expected ? 1 : 0;
  });
  INFO(ranks << " ranks, " << elems << " elements, segments of " << segment_bytes << " B");
  REQUIRE(right == ranks);
}

TEST_CASE("exact over shared memory with tiny segments") {
  for (const int ranks : {1, 2, 3, 4, 5, 8}) {
    for (const std::size_t elems : {0, 1, 2, 3, 7, 8, 9, 40}) {
      check_shm<float>(ranks, elems, 4);
      check_shm<double>(ranks, elems, 16);
    }
    check_shm<float>(ranks, 1009, 12);
    check_shm<float>(ranks, 1000003, 65536);
    check_shm<double>(ranks, 100003, 1 << 20);
  }
}

}  // namespace
