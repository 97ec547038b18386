// SPDX-License-Identifier: Apache-2.0
// What the threads of a GPU do, done by pretended threads of the host: every element is taken once,
// and kernels have the bits of the host's loops.
#include "libdist/memory/device_programs.h"

#include <cstring>
#include <random>
#include <vector>

#include "libdist/memory/reduce.h"
#include "libdist/update_loops.h"
#include "tests/support/catch.h"

namespace dist::device {
namespace {

struct Counter {
  std::vector<int>& taken;
  std::uint64_t width;
  void vector(std::uint64_t first) const {
    for (std::uint64_t i = 0; i < width; ++i) ++taken.at(first + i);
  }
  void single(std::uint64_t i) const { ++taken.at(i); }
};

// As a launch would.
template <typename Program>
void run(const Program& program, std::uint64_t threads) {
  for (std::uint64_t thread = 0; thread < threads; ++thread) program(thread, threads);
}

template <typename T>
std::vector<T> numbers(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<T> made(count);
  for (T& value : made) value = static_cast<T>(static_cast<float>(random() % 2000) / 7 - 100);
  return made;
}

constexpr std::uint64_t address_of(const void* pointer) {
  return reinterpret_cast<std::uintptr_t>(pointer);
}

}  // namespace

TEST_CASE("every element is taken by one thread, once") {
  for (const std::uint64_t width : {1, 2, 4, 8, 16}) {
    for (const std::uint64_t elems : {0, 1, 3, 15, 16, 17, 31, 100, 1027}) {
      for (std::uint64_t skew = 0; skew < 2 * width; ++skew) {
        const std::array<Placed, 2> spans = {Placed{4096 + 4 * skew, 4},
                                             Placed{8192 + 2 * skew, 2}};
        const Split cut = split(spans, elems, width);
        REQUIRE(cut.tail == cut.head + cut.vectors * width);
        REQUIRE(cut.singles() + cut.vectors * width == elems);
        // The whole range but its ends, since a common boundary exists.
        REQUIRE(cut.singles() < 2 * width);
        if (cut.vectors > 0) {
          for (const Placed& span : spans) {
            REQUIRE((span.address + cut.head * span.elem_bytes) % (width * span.elem_bytes) == 0);
          }
        }
        for (const std::uint64_t threads : {1, 7, 256, 4096}) {
          std::vector<int> taken(elems);
          for (std::uint64_t thread = 0; thread < threads; ++thread) {
            share(cut, width, thread, threads, Counter{taken, width});
          }
          REQUIRE(taken == std::vector<int>(elems, 1));
        }
      }
    }
  }
}

TEST_CASE("spans without a common boundary are taken one by one") {
  const std::array<Placed, 2> spans = {Placed{4096, 4}, Placed{8192 + 4, 4}};
  const Split cut = split(spans, 1000, 4);
  REQUIRE(cut.vectors == 0);
  REQUIRE(cut.singles() == 1000);
}

TEST_CASE("a launch has blocks for all work, and no more than it may") {
  REQUIRE(blocks_for(0, 100) == 1);
  REQUIRE(blocks_for(1, 100) == 1);
  REQUIRE(blocks_for(kThreads, 100) == 1);
  REQUIRE(blocks_for(kThreads + 1, 100) == 2);
  REQUIRE(blocks_for(std::uint64_t{1} << 40, 100) == 100);
  REQUIRE(sum_blocks(0) == 1);
  REQUIRE(sum_blocks(16384) == 1);
  REQUIRE(sum_blocks(16385) == 2);
  REQUIRE(sum_blocks(std::uint64_t{1} << 40) == kMostSumBlocks);
}

namespace {

template <typename Operation, typename T>
void check_reduce(Reduction reduction, std::size_t sources, std::size_t skew) {
  constexpr std::size_t kElems = 103;
  std::vector<std::vector<T>> values;
  Reduce<Operation, T> program{};
  std::vector<Placed> places;
  std::vector<std::span<const std::byte>> spans;
  values.reserve(sources);
  for (std::size_t s = 0; s < sources; ++s) {
    values.push_back(numbers<T>(kElems + skew, static_cast<unsigned>(s)));
    const auto from = std::span<const T>(values.back()).subspan(skew);
    program.sources[s] = from.data();
    places.push_back({address_of(from.data()), sizeof(T)});
    spans.push_back(std::as_bytes(from));
  }
  std::vector<T> first(kElems + skew);
  std::vector<T> second(kElems + skew);
  std::vector<T> expected(kElems);
  program.outs = {first.data() + skew, second.data() + skew};
  for (T* const out : {program.outs[0], program.outs[1]}) {
    places.push_back({address_of(out), sizeof(T)});
  }
  program.out_count = 2;
  program.source_count = static_cast<std::uint32_t>(sources);
  program.mean = reduction == Reduction::mean;
  program.split = split(places, kElems, program.kWidth);
  run(program, 10);
  const std::array<std::span<std::byte>, 1> out = {std::as_writable_bytes(std::span(expected))};
  reduce_in_order(out, spans, dtype_of<T>, reduction);
  INFO(name_of(dtype_of<T>) << " " << name_of(reduction) << " of " << sources << ", skew " << skew);
  REQUIRE(std::memcmp(program.outs[0], expected.data(), kElems * sizeof(T)) == 0);
  REQUIRE(std::memcmp(program.outs[1], expected.data(), kElems * sizeof(T)) == 0);
}

template <typename T>
void check_reduces() {
  for (const std::size_t sources : {std::size_t{2}, std::size_t{5}, kMostDeviceSources}) {
    for (const std::size_t skew : {0, 1, 3}) {
      check_reduce<kernels::Sum, T>(Reduction::sum, sources, skew);
      check_reduce<kernels::Sum, T>(Reduction::mean, sources, skew);
      check_reduce<kernels::Min, T>(Reduction::min, sources, skew);
      check_reduce<kernels::Max, T>(Reduction::max, sources, skew);
      check_reduce<kernels::Product, T>(Reduction::product, sources, skew);
    }
  }
}

template <typename Rule, typename T>
void check_update(const Rule& rule, std::size_t gradients, std::size_t skew) {
  constexpr std::size_t kElems = 103;
  auto scalars = scalars_of(rule, 4, 0.7);
  scalars.scale = 1.0 / 3;
  scalars.rate = 0.05;
  scalars.decay = 0.01;
  auto here = numbers<T>(kElems + skew, 1);
  auto there = here;
  std::array<std::vector<T>, kMostStates> states_here;
  states_here.fill(std::vector<T>(kElems + skew, T(2)));
  auto states_there = states_here;
  std::vector<std::vector<T>> values;
  std::vector<T> sum(kElems);
  UpdateElements<Rule, T> program{};
  std::vector<Placed> places = {{address_of(there.data() + skew), sizeof(T)}};
  values.reserve(gradients);
  for (std::size_t s = 0; s < gradients; ++s) {
    values.push_back(numbers<T>(kElems + skew, static_cast<unsigned>(s + 20)));
    program.gradients[s] = values.back().data() + skew;
    places.push_back({address_of(program.gradients[s]), sizeof(T)});
    for (std::size_t i = 0; i < kElems; ++i) {
      sum[i] = s == 0 ? program.gradients[s][i] : sum[i] + program.gradients[s][i];
    }
  }
  program.rule = rule;
  program.parameters = there.data() + skew;
  program.gradient_count = static_cast<std::uint32_t>(gradients);
  for (std::size_t k = 0; k < kMostStates; ++k) {
    program.states[k] = states_there[k].data() + skew;
    places.push_back({address_of(program.states[k]), sizeof(T)});
  }
  program.scalars = &scalars;
  program.split = split(places, kElems, program.kWidth);
  run(program, 10);
  const std::array<std::span<const std::byte>, 1> one = {std::as_bytes(std::span(sum))};
  const auto bytes = [&](std::vector<T>& all) {
    return std::as_writable_bytes(std::span(all).subspan(skew));
  };
  update_on(InstructionSet::portable, rule, dtype_of<T>, bytes(here), one,
            {bytes(states_here[0]).data(), bytes(states_here[1]).data()}, scalars);
  INFO(name_of(rule) << " " << name_of(dtype_of<T>) << " of " << gradients << ", skew " << skew);
  REQUIRE(std::memcmp(there.data(), here.data(), here.size() * sizeof(T)) == 0);
  REQUIRE(states_there == states_here);
  // A closed gate.
  const double closed = std::numeric_limits<double>::quiet_NaN();
  program.gate = &closed;
  run(program, 10);
  REQUIRE(std::memcmp(there.data(), here.data(), here.size() * sizeof(T)) == 0);
}

template <typename Rule>
void check_updates(const Rule& rule) {
  for (const std::size_t gradients : {std::size_t{1}, std::size_t{3}, kMostDeviceSources}) {
    for (const std::size_t skew : {0, 1}) {
      check_update<Rule, float>(rule, gradients, skew);
      check_update<Rule, double>(rule, gradients, skew);
    }
  }
}

}  // namespace

TEST_CASE("the reduce program has the bits of the host's loops for every type") {
  check_reduces<float>();
  check_reduces<double>();
  check_reduces<Half>();
  check_reduces<BFloat16>();
  check_reduces<std::int8_t>();
  check_reduces<std::int16_t>();
  check_reduces<std::int32_t>();
  check_reduces<std::int64_t>();
  check_reduces<std::uint8_t>();
  check_reduces<std::uint16_t>();
  check_reduces<std::uint32_t>();
  check_reduces<std::uint64_t>();
}

TEST_CASE("the update program has the bits of the host's loops for every rule") {
  check_updates(Sgd{});
  check_updates(Momentum{});
  check_updates(Nesterov{});
  check_updates(RmsProp{});
  check_updates(Adagrad{.learning_rate_decay = 0.1});
  check_updates(Adam{});
  check_updates(AdamW{});
  check_updates(Nadam{});
  check_updates(Lars{});
}

TEST_CASE("programs over single values take each of them") {
  auto values = numbers<float>(1001, 3);
  double total = 0;
  for (std::uint64_t thread = 0; thread < 37; ++thread) {
    total += Squares<float>{values.data(), values.size()}(thread, 37);
  }
  const auto expected =
      sum_of_squares_on(InstructionSet::portable, DType::f32, std::as_bytes(std::span(values)));
  REQUIRE(total == test::Approx(expected).epsilon(1e-12));
  values[5] = std::numeric_limits<float>::infinity();
  values[1000] = std::numeric_limits<float>::quiet_NaN();
  std::uint32_t found = 0;
  for (std::uint64_t thread = 0; thread < 37; ++thread) {
    found += NotFinite<float>{values.data(), values.size()}(thread, 37);
  }
  REQUIRE(found == 2);
  std::vector<std::uint16_t> filled(1001);
  run(Fill<std::uint16_t>{filled.data(), filled.size(), 0x8000}, 37);
  REQUIRE(filled == std::vector<std::uint16_t>(1001, 0x8000));
  auto divided = numbers<std::int16_t>(1001, 4);
  auto by_host = divided;
  const double three = 3;
  run(Divide<std::int16_t>{divided.data(), divided.size(), 0, &three}, 37);
  divide(std::as_writable_bytes(std::span(by_host)), 3, DType::i16);
  REQUIRE(divided == by_host);
}

}  // namespace dist::device
