// SPDX-License-Identifier: Apache-2.0
// What every collective of a group promises: exact values in every type and reduction, at any
// length and place, over every transport and algorithm; sub-groups; work in flight; a lost peer.
// [threads]: ranks as threads over shm and tcp; [shm], [tcp], [mpi]: this program started by
// distrun or mpirun.
#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "allreduce/group.h"
#include "libdist/dist.h"
#include "tests/support/catch.h"
#include "tests/support/ranks.h"

namespace {

using namespace dist;
using test::expect;
using test::expect_ok;

const std::vector<std::string> kAlgorithms = {"auto", "ring", "doubling", "halving", "tree"};
const std::vector<Reduction> kReductions = {Reduction::sum, Reduction::mean, Reduction::min,
                                            Reduction::max, Reduction::product};

// What `member` brings as element i: small integers, whose sums are multiples of the number of
// members where a mean is asked for, and whose products of eight fit into a byte.
int contribution(Reduction reduction, int member, std::uint64_t i) {
  const auto place = static_cast<int>(i % 5);
  switch (reduction) {
    case Reduction::sum:
      return place + member;
    case Reduction::mean:
      return place + 2 * member;
    case Reduction::min:
    case Reduction::max:
      return (place * 7 + member * 3) % 11;
    case Reduction::product:
      return (place + member) % 3 == 0 ? 2 : 1;
  }
  return 0;
}

int reduced(Reduction reduction, int members, std::uint64_t i) {
  int value = contribution(reduction, 0, i);
  for (int m = 1; m < members; ++m) {
    const int next = contribution(reduction, m, i);
    if (reduction == Reduction::min) {
      value = std::min(value, next);
    } else if (reduction == Reduction::max) {
      value = std::max(value, next);
    } else if (reduction == Reduction::product) {
      value *= next;
    } else {
      value += next;
    }
  }
  return reduction == Reduction::mean ? value / members : value;
}

template <typename T>
T element(int value) {
  return T(static_cast<float>(value));
}

template <typename T>
bool equal(T a, T b) {
  if constexpr (std::is_arithmetic_v<T>) {
    return a == b;
  } else {
    return a.bits == b.bits;
  }
}

// Elements in the middle of a longer array, so that they begin on an odd element and what lies
// around them can be watched.
template <typename T>
class Buffer {
 public:
  template <typename Value>
  Buffer(std::uint64_t elems, const Value& value) : memory_(elems + 2 * kMargin, element<T>(99)) {
    for (std::uint64_t i = 0; i < elems; ++i) memory_[kMargin + i] = element<T>(value(i));
  }

  std::span<T> span() { return std::span(memory_).subspan(kMargin, memory_.size() - 2 * kMargin); }

  // The elements of `range` are those of `value`, and nothing was written outside the buffer.
  template <typename Value>
  void expect_values(Range range, const Value& value, const std::string& what) {
    for (auto i = range.begin; i < range.end; ++i) {
      if (!equal(span()[i], element<T>(value(i)))) expect(false, "{}: [{}]", what, i);
    }
    for (std::size_t i = 0; i < kMargin; ++i) {
      expect(equal(memory_[i], element<T>(99)) &&
                 equal(memory_[memory_.size() - 1 - i], element<T>(99)),
             "{}: wrote outside the data", what);
    }
  }

 private:
  static constexpr std::size_t kMargin = 3;
  std::vector<T> memory_;
};

template <typename T>
void check_reductions(Group& group, std::uint64_t elems, Reduction reduction, Rank root) {
  const auto what =
      fmt::format("{} {} of {} {}, {} ranks, root {}", group.algorithm(Bytes(elems)),
                  name_of(reduction), elems, name_of(dtype_of<T>), group.ranks(), root);
  const auto own = [&](std::uint64_t i) { return contribution(reduction, group.rank(), i); };
  const auto all = [&](std::uint64_t i) { return reduced(reduction, group.ranks(), i); };
  Buffer<T> everywhere(elems, own);
  expect_ok(group.all_reduce(everywhere.span(), reduction));
  everywhere.expect_values({0, elems}, all, "all-reduce: " + what);

  Buffer<T> scattered(elems, own);
  const auto chunk = group.reduce_scatter(scattered.span(), reduction);
  expect_ok(chunk.status());
  expect(*chunk == chunk_range({0, elems}, group.ranks(), group.rank()), "reduce-scatter's range");
  scattered.expect_values(*chunk, all, "reduce-scatter: " + what);

  Buffer<T> at_root(elems, own);
  expect_ok(group.reduce(at_root.span(), root, reduction));
  at_root.expect_values(group.rank() == root ? Range{0, elems} : Range{}, all, "reduce: " + what);
}

template <typename T>
void check_copies(Group& group, std::uint64_t elems, Rank root) {
  const auto what =
      fmt::format("{} {}, {} ranks, root {}", elems, name_of(dtype_of<T>), group.ranks(), root);
  const auto value = [&](std::uint64_t i) { return static_cast<int>(i % 97) + root; };
  const Range chunk = group.own_chunk(elems);
  Buffer<T> gathered(
      elems, [&](std::uint64_t i) { return i >= chunk.begin && i < chunk.end ? value(i) : 98; });
  expect_ok(group.all_gather(gathered.span()));
  gathered.expect_values({0, elems}, value, "all-gather: " + what);

  Buffer<T> handed_down(elems,
                        [&](std::uint64_t i) { return group.rank() == root ? value(i) : 98; });
  expect_ok(group.broadcast(handed_down.span(), root));
  handed_down.expect_values({0, elems}, value, "broadcast: " + what);
}

void check_types(Group& group, std::uint64_t elems, Reduction reduction, Rank root) {
  check_reductions<float>(group, elems, reduction, root);
  check_reductions<double>(group, elems, reduction, root);
  check_reductions<std::int32_t>(group, elems, reduction, root);
  check_reductions<std::uint8_t>(group, elems, reduction, root);
  check_reductions<Half>(group, elems, reduction, root);
  check_reductions<BFloat16>(group, elems, reduction, root);
}

// The segments of these tests are 52 bytes long: no power of two, and many to a message.
void check_group(Group& group) {
  const Rank last = group.ranks() - 1;
  for (const Reduction reduction : kReductions) check_types(group, 13, reduction, last);
  for (const std::uint64_t elems : {0, 1, 2, 3, 7, 97, 1009}) {
    for (const Rank root : {0, last / 2, last}) {
      check_reductions<float>(group, elems, Reduction::sum, root);
      check_copies<double>(group, elems, root);
    }
    check_copies<std::uint8_t>(group, elems, last);
  }
  expect_ok(group.barrier());
}

void check_algorithms(World& world, const std::vector<std::string>& algorithms) {
  for (const auto& algorithm : algorithms) {
    check_group(*allreduce::make_group(world, {}, algorithm).value());
  }
}

Options small_options() {
  Options options;
  options.segment_bytes = 52_B;
  options.timeout = std::chrono::seconds(60);
  return options;
}

template <typename Body>
void on_threads(const std::vector<int>& rank_counts, const Body& body,
                const Options& options = small_options()) {
  for (const auto& transport : test::kThreadTransports) {
    for (const int ranks : rank_counts) {
      INFO(transport << ", " << ranks << " ranks");
      REQUIRE_NOTHROW(test::run_ranks(transport, ranks, body, options));
    }
  }
}

TEST_CASE("every collective, reduction and type is exact", "[threads]") {
  on_threads(test::kRankCounts, [](World& world) { check_algorithms(world, kAlgorithms); });
}

TEST_CASE("long messages with the usual segments", "[threads]") {
  Options options;
  on_threads(
      {2, 3},
      [](World& world) {
        for (const auto& algorithm : kAlgorithms) {
          const auto group = allreduce::make_group(world, {}, algorithm).value();
          check_reductions<float>(*group, 300'007, Reduction::sum, 1);
          check_copies<std::uint8_t>(*group, 1'000'003, 1);
        }
      },
      options);
}

// More elements than 32 bits count, and not a multiple of anything.
TEST_CASE("more than 2^31 elements", "[.huge]") {
  constexpr std::uint64_t kElems = (std::uint64_t{1} << 31) + 17;
  for (const std::string algorithm : {"auto", "ring", "doubling"}) {
    INFO(algorithm);
    REQUIRE_NOTHROW(test::run_ranks("shm", 2, [&](World& world) {
      const auto group = allreduce::make_group(world, {}, algorithm).value();
      std::vector<std::uint8_t> data(kElems);
      const auto value = [](std::uint64_t i, Rank r) {
        return static_cast<std::uint8_t>((i ^ i >> 29) % 61 + static_cast<unsigned>(r));
      };
      for (std::uint64_t i = 0; i < kElems; ++i) data[i] = value(i, world.rank());
      expect_ok(group->all_reduce(data));
      std::uint64_t wrong = 0;
      for (std::uint64_t i = 0; i < kElems; ++i) wrong += data[i] != value(i, 0) + value(i, 1);
      expect(wrong == 0, "{} elements are wrong", wrong);
    }));
  }
}

TEST_CASE("sub-groups: disjoint, reversed, overlapping, of one", "[threads]") {
  on_threads({3, 5, 8}, [](World& world) {
    std::vector<Rank> evens, odds, all, low, high;
    for (Rank r = 0; r < world.ranks(); ++r) {
      (r % 2 == 0 ? evens : odds).push_back(r);
      all.push_back(r);
      if (r < world.ranks() - 1) low.push_back(r);
      if (r > 0) high.push_back(r);
    }
    std::reverse(all.begin(), all.end());
    const auto check = [&](const std::vector<Rank>& members) {
      if (std::find(members.begin(), members.end(), world.rank()) == members.end()) return;
      const auto group = make_group(world, members).value();
      expect(group->world_rank(group->rank()) == world.rank(), "numbers follow the list");
      check_group(*group);
    };
    check(world.rank() % 2 == 0 ? evens : odds);
    check(all);
    check(low);
    check(high);
    check({world.rank()});
  });
}

TEST_CASE("many operations in flight at once, waited for in another order", "[threads]") {
  on_threads({2, 3, 5}, [](World& world) {
    const auto group = make_group(world).value();
    constexpr std::uint64_t kElems = 1009;
    const int n = world.ranks();
    const auto own = [&](std::uint64_t i) {
      return contribution(Reduction::sum, group->rank(), i);
    };
    const auto all = [&](std::uint64_t i) { return reduced(Reduction::sum, n, i); };
    const auto first = [](std::uint64_t i) { return contribution(Reduction::sum, 0, i); };
    std::vector<Buffer<float>> data(6, Buffer<float>(kElems, own));
    std::vector<Work> works;
    works.push_back(group->start_all_reduce(data[0].span()));
    works.push_back(group->start_broadcast(data[1].span()));
    works.push_back(group->start_reduce(data[2].span(), n - 1));
    works.push_back(group->start_reduce_scatter(data[3].span()));
    works.push_back(group->start_barrier());
    works.push_back(group->start_all_reduce(data[4].span(), Reduction::max));
    // A blocking call queues behind what was started.
    expect_ok(group->all_reduce(data[5].span()));
    std::reverse(works.begin(), works.end());
    for (Work& work : works) expect_ok(work.wait());
    data[0].expect_values({0, kElems}, all, "all-reduce");
    data[1].expect_values({0, kElems}, first, "broadcast");
    data[2].expect_values(group->rank() == n - 1 ? Range{0, kElems} : Range{}, all, "reduce");
    data[3].expect_values(group->own_chunk(kElems), all, "reduce-scatter");
    data[5].expect_values({0, kElems}, all, "the blocking all-reduce");
    Work gather = group->start_all_gather(data[3].span());
    expect_ok(gather.wait());
    data[3].expect_values({0, kElems}, all, "all-gather");
  });
}

TEST_CASE("a deadline that passes ends the wait, not the operation", "[threads]") {
  for (const auto& transport : test::kThreadTransports) {
    std::atomic<bool> gave_up{false};
    REQUIRE_NOTHROW(test::run_ranks(transport, 2, [&](World& world) {
      const auto group = make_group(world).value();
      std::vector<float> values(100, 1);
      if (world.rank() == 1) {
        while (!gave_up) std::this_thread::sleep_for(std::chrono::milliseconds(1));
        return expect_ok(group->start_all_reduce(values).wait());
      }
      Work work = group->start_all_reduce(values);
      const auto late = work.wait_until(Clock::now() + std::chrono::milliseconds(30));
      gave_up = true;
      expect(late.code() == ErrorCode::timed_out, "the other has not even begun");
      expect(late.message().find("all-reduce") != std::string::npos, "{}", late.message());
      expect_ok(work.wait());
      expect(work.test() && work.status().ok(), "ended well");
      expect(values == std::vector<float>(100, 2), "the sum");
    }));
  }
}

TEST_CASE("a lost rank fails what is in flight and what comes later, and is named", "[threads]") {
  for (const auto& transport : test::kThreadTransports) {
    for (const bool blocking : {false, true}) {
      REQUIRE_NOTHROW(test::run_ranks(transport, 2, [&](World& world) {
        const auto group = make_group(world).value();
        if (world.rank() == 1) return;
        std::vector<float> values(100, 1);
        const Status outcome =
            blocking ? group->all_reduce(values) : group->start_all_reduce(values).wait();
        expect(outcome.code() == ErrorCode::peer_lost, "lost: {}", outcome.message());
        for (const char* word : {"all-reduce", "rank 1"}) {
          expect(outcome.message().find(word) != std::string::npos, "{}", outcome.message());
        }
        expect(!world.progress().failure().ok(), "the world has failed");
        expect(!group->start_barrier().wait().ok() && !group->barrier().ok(), "and stays so");
      }));
    }
  }
}

void check_process(const std::string& transport, std::vector<std::string> algorithms) {
  auto options = Options::from_environment().value();
  options.transport = transport;
  options.segment_bytes = small_options().segment_bytes;
  options.timeout = small_options().timeout;
  auto world = World::open(std::move(options)).value();
  REQUIRE_NOTHROW(check_algorithms(world, algorithms));
  if (world.ranks() < 2) return;
  std::vector<Rank> same;
  for (Rank r = world.rank() % 2; r < world.ranks(); r += 2) same.push_back(r);
  REQUIRE_NOTHROW(check_group(*make_group(world, same).value()));
  REQUIRE_OK(make_group(world).value()->barrier());
}

TEST_CASE("exact between processes over shm", "[shm]") { check_process("shm", {"auto", "ring"}); }
TEST_CASE("exact between processes over tcp", "[tcp]") { check_process("tcp", {"auto", "ring"}); }
TEST_CASE("exact between processes over MPI", "[mpi]") {
  check_process("mpi", {"auto", "ring", "doubling", "native"});
}

}  // namespace
