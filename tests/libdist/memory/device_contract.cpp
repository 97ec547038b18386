// SPDX-License-Identifier: Apache-2.0
// Every function of a Device that computes, against the host's, bit for bit but for sums of
// squares.
#include "tests/libdist/memory/device_contract.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#include "libdist/memory/reduce.h"
#include "libdist/update_loops.h"
#include "tests/support/catch.h"

namespace dist {
namespace {

using test::Approx;

// Sizes around vectors and blocks, with what does not fit at either end.
const std::vector<std::size_t> kSizes = {0, 1, 3, 15, 16, 17, 255, 1027, 70001};

std::vector<std::byte> random_bytes(DType dtype, std::size_t elems, unsigned seed) {
  std::mt19937 random(seed);
  std::vector<std::byte> bytes(elems * size_of(dtype));
  std::uniform_real_distribution<float> between(-2, 2);
  for (std::size_t i = 0; i < elems; ++i) {
    std::byte* const at = bytes.data() + i * size_of(dtype);
    // NaN payloads are free; integers take any bits.
    std::uint64_t pattern = random() | std::uint64_t{random()} << 32;
    if (dtype == DType::f32) pattern = std::bit_cast<std::uint32_t>(between(random));
    if (dtype == DType::f64) pattern = std::bit_cast<std::uint64_t>(double{between(random)} / 3);
    if (dtype == DType::f16) pattern = Half(between(random)).bits;
    if (dtype == DType::bf16) pattern = BFloat16(between(random)).bits;
    std::memcpy(at, &pattern, size_of(dtype));
  }
  return bytes;
}

/// Memory of the device, `skew` bytes into an allocation.
class Block {
 public:
  Block(Device& device, Stream stream, std::span<const std::byte> bytes, std::size_t skew = 0)
      : device_(device), stream_(stream) {
    memory_ = device.allocate(Bytes(bytes.size() + skew), MemoryKind::device).value();
    span_ = memory_.bytes().subspan(skew);
    device.copy(stream, span_, bytes).value();
    device.synchronize(stream).value();
  }

  std::span<std::byte> span() const { return span_; }
  template <typename T>
  T* as() const {
    return reinterpret_cast<T*>(span_.data());
  }
  std::vector<std::byte> read() const {
    std::vector<std::byte> bytes(span_.size());
    device_.copy(stream_, bytes, span_).value();
    device_.synchronize(stream_).value();
    return bytes;
  }

 private:
  Device& device_;
  Stream stream_;
  DeviceMemory memory_;
  std::span<std::byte> span_;
};

template <typename T>
std::vector<std::byte> bytes_of_values(const std::vector<T>& values) {
  const auto bytes = std::as_bytes(std::span(values));
  return {bytes.begin(), bytes.end()};
}

struct Fixture {
  std::unique_ptr<Device> device = test::make_device();
  Stream stream = device->make_stream(StreamPriority::normal).value();

  Block block(const std::vector<std::byte>& bytes, std::size_t skew = 0) {
    return {*device, stream, bytes, skew};
  }
};

constexpr std::array<Reduction, 5> kReductions = {Reduction::sum, Reduction::mean, Reduction::min,
                                                  Reduction::max, Reduction::product};

// `skews` elements into their allocations, the first source and the out.
void check_reduce(Fixture& f, DType dtype, std::size_t elems, std::size_t count,
                  std::array<std::size_t, 2> skews) {
  std::vector<std::vector<std::byte>> values;
  std::vector<Block> blocks;
  blocks.reserve(count);
  std::vector<std::span<const std::byte>> here;
  std::vector<std::span<const std::byte>> there;
  for (std::size_t s = 0; s < count; ++s) {
    values.push_back(random_bytes(dtype, elems, static_cast<unsigned>(s)));
    blocks.push_back(f.block(values.back(), s == 0 ? skews[0] * size_of(dtype) : 0));
    there.push_back(blocks.back().span());
  }
  for (const auto& value : values) here.push_back(value);
  const std::vector<std::byte> nothing(elems * size_of(dtype));
  for (const Reduction reduction : kReductions) {
    INFO(name_of(dtype) << " " << name_of(reduction) << ", " << elems << " elements of " << count);
    auto expected = nothing;
    const std::array<std::span<std::byte>, 1> out = {expected};
    reduce_in_order(out, here, dtype, reduction);
    const Block first = f.block(nothing, skews[1] * size_of(dtype));
    const Block second = f.block(nothing, skews[1] * size_of(dtype));
    const std::array<std::span<std::byte>, 2> outs = {first.span(), second.span()};
    REQUIRE_OK(f.device->reduce(f.stream, outs, there, dtype, reduction));
    REQUIRE(first.read() == expected);
    REQUIRE(second.read() == expected);
  }
}

}  // namespace

TEST_CASE("a device reduces to the host's bits") {
  Fixture f;
  for (std::size_t type = 0; type < kDTypes; ++type) {
    const auto dtype = static_cast<DType>(type);
    for (const std::size_t elems : kSizes) check_reduce(f, dtype, elems, 3, {0, 0});
    for (const std::size_t count : {std::size_t{1}, std::size_t{2}, kMostDeviceSources}) {
      check_reduce(f, dtype, 1027, count, {0, 0});
    }
    check_reduce(f, dtype, 1027, 2, {1, 1});
    check_reduce(f, dtype, 1027, 2, {1, 2});
  }
}

TEST_CASE("a device divides and fills to the host's bits") {
  Fixture f;
  for (std::size_t type = 0; type < kDTypes; ++type) {
    const auto dtype = static_cast<DType>(type);
    INFO(name_of(dtype));
    for (const std::uint64_t count : {1, 3, 300}) {
      const auto values = random_bytes(dtype, 1027, 5);
      auto expected = values;
      divide(expected, count, dtype);
      const Block data = f.block(values);
      REQUIRE_OK(f.device->divide(f.stream, data.span(), count, dtype));
      REQUIRE(data.read() == expected);
      const Block by = f.block(bytes_of_values(std::vector<double>{static_cast<double>(count)}));
      const Block again = f.block(values);
      REQUIRE_OK(f.device->divide_by(f.stream, again.span(), by.as<double>(), dtype));
      REQUIRE(again.read() == expected);
    }
    const auto ones = random_bytes(dtype, 9, 5);
    const Block zero = f.block(bytes_of_values(std::vector<double>{0}));
    const Block data = f.block(ones);
    REQUIRE_OK(f.device->divide_by(f.stream, data.span(), zero.as<double>(), dtype));
    REQUIRE(data.read() == ones);
    REQUIRE_OK(f.device->fill(f.stream, dtype, data.span(), 0));
    REQUIRE(data.read() == std::vector<std::byte>(ones.size()));
    REQUIRE_OK(f.device->fill(f.stream, dtype, data.span(), 3));
    const auto three = data.read();
    REQUIRE(std::memcmp(three.data(), three.data() + size_of(dtype), 8 * size_of(dtype)) == 0);
    REQUIRE(three != ones);
  }
  const Block data = f.block(bytes_of_values(std::vector<float>{1, 2, 3}));
  REQUIRE_OK(f.device->fill(f.stream, DType::f32, data.span(), -0.0));
  REQUIRE(data.read() == bytes_of_values(std::vector<float>{-0.0f, -0.0f, -0.0f}));
}

namespace {

void check_update(Fixture& f, const UpdateRule& rule, DType dtype, std::size_t elems,
                  std::size_t count, std::size_t skew) {
  INFO(name_of(rule) << " " << name_of(dtype) << ", " << elems << " elements of " << count);
  auto scalars = scalars_of(rule, 3, 0.8);
  scalars.scale = 1.0 / 3;
  scalars.rate = 0.1;
  scalars.decay = 1e-3;
  auto p = random_bytes(dtype, elems, 1);
  const std::vector<std::byte> zero(p.size());
  // States as squares are: not negative.
  auto first = zero;
  auto second = zero;
  const std::size_t bytes = skew * size_of(dtype);
  const Block there = f.block(p, bytes);
  const Block first_there = f.block(first, bytes);
  const Block second_there = f.block(second, bytes);
  const Block scalars_there = f.block(bytes_of_values(std::vector<UpdateScalars>{scalars}));
  std::vector<std::vector<std::byte>> gradients;
  std::vector<Block> gradients_there;
  std::vector<std::span<const std::byte>> sources;
  gradients_there.reserve(count);
  for (std::size_t s = 0; s < count; ++s) {
    gradients.push_back(random_bytes(dtype, elems, static_cast<unsigned>(10 + s)));
    gradients_there.push_back(f.block(gradients.back(), bytes));
    sources.push_back(gradients_there.back().span());
  }
  std::vector<std::span<const std::byte>> summands(gradients.begin(), gradients.end());
  std::vector<std::byte> sum(p.size());
  const std::array<std::span<std::byte>, 1> out = {sum};
  reduce_in_order(out, summands, dtype, Reduction::sum);
  const std::array<std::span<const std::byte>, 1> one = {sum};
  for (int step = 0; step < 2; ++step) {
    update_on(best_instruction_set(), rule, dtype, p, one, {first.data(), second.data()}, scalars);
    REQUIRE_OK(f.device->update(f.stream, rule, dtype, there.span(), sources,
                                {first_there.span().data(), second_there.span().data()},
                                scalars_there.as<UpdateScalars>(), nullptr));
  }
  REQUIRE(there.read() == p);
  if (states_of(rule) > 0) REQUIRE(first_there.read() == first);
  if (states_of(rule) > 1) REQUIRE(second_there.read() == second);

  const Block gate = f.block(bytes_of_values(std::vector<double>{NAN, 5}));
  REQUIRE_OK(f.device->update(f.stream, rule, dtype, there.span(), sources,
                              {first_there.span().data(), second_there.span().data()},
                              scalars_there.as<UpdateScalars>(), gate.as<double>()));
  REQUIRE(there.read() == p);
  if (elems == 0) return;
  REQUIRE_OK(f.device->update(f.stream, rule, dtype, there.span(), sources,
                              {first_there.span().data(), second_there.span().data()},
                              scalars_there.as<UpdateScalars>(), gate.as<double>() + 1));
  REQUIRE(there.read() != p);
}

}  // namespace

TEST_CASE("a device updates to the host's bits") {
  Fixture f;
  const std::vector<UpdateRule> rules = {Sgd{},  Momentum{}, Nesterov{}, RmsProp{}, Adagrad{},
                                         Adam{}, AdamW{},    Nadam{},    Lars{}};
  for (const UpdateRule& rule : rules) {
    for (const DType dtype : {DType::f32, DType::f64}) {
      for (const std::size_t elems : kSizes) check_update(f, rule, dtype, elems, 1, 0);
      for (const std::size_t count : {std::size_t{2}, std::size_t{5}, kMostDeviceSources}) {
        check_update(f, rule, dtype, 1027, count, 0);
      }
      check_update(f, rule, dtype, 1027, 1, 1);
    }
  }
}

TEST_CASE("a device sums squares, the same every time, and counts what is not finite") {
  Fixture f;
  for (const DType dtype : {DType::f32, DType::f64}) {
    for (const std::size_t elems : kSizes) {
      const auto values = random_bytes(dtype, elems, 4);
      const Block there = f.block(values);
      const Block totals = f.block(bytes_of_values(std::vector<double>{1, 1}));
      for (std::size_t k = 0; k < 2; ++k) {
        REQUIRE_OK(f.device->add_squares(f.stream, dtype, there.span(), totals.as<double>() + k));
      }
      const auto read = totals.read();
      std::array<double, 2> sums;
      std::memcpy(sums.data(), read.data(), sizeof(sums));
      REQUIRE(sums[0] == sums[1]);
      REQUIRE(
          sums[0] ==
          Approx(1 + sum_of_squares_on(InstructionSet::portable, dtype, values)).epsilon(1e-12));
    }
  }
  const float inf = std::numeric_limits<float>::infinity();
  std::vector<float> values(5000, 1e30f);
  values[0] = inf;
  values[77] = -inf;
  values[4999] = NAN;
  const Block there = f.block(bytes_of_values(values));
  const Block count = f.block(bytes_of_values(std::vector<std::uint32_t>{4}));
  REQUIRE_OK(
      f.device->count_not_finite(f.stream, DType::f32, there.span(), count.as<std::uint32_t>()));
  REQUIRE(count.read() == bytes_of_values(std::vector<std::uint32_t>{7}));
  const std::vector<Half> halves = {Half(1), Half(inf), Half(NAN), Half(65504)};
  const Block small = f.block(bytes_of_values(halves));
  REQUIRE_OK(
      f.device->count_not_finite(f.stream, DType::f16, small.span(), count.as<std::uint32_t>()));
  REQUIRE(count.read() == bytes_of_values(std::vector<std::uint32_t>{9}));
}

namespace {

template <typename Out, typename In>
void check_convert(Fixture& f, std::size_t elems, std::size_t skew) {
  const auto values = random_bytes(dtype_of<In>, elems, 6);
  const float factor = 0.3f;
  std::vector<Out> plain(elems);
  std::vector<Out> scaled(elems);
  for (std::size_t i = 0; i < elems; ++i) {
    In value;
    std::memcpy(&value, values.data() + i * sizeof(In), sizeof(In));
    plain[i] = static_cast<Out>(static_cast<float>(value));
    scaled[i] = static_cast<Out>(static_cast<float>(value) * factor);
  }
  const Block in = f.block(values, skew * sizeof(In));
  const Block out = f.block(std::vector<std::byte>(elems * sizeof(Out)));
  const Block times = f.block(bytes_of_values(std::vector<float>{factor}));
  INFO(name_of(dtype_of<In>) << " to " << name_of(dtype_of<Out>) << ", " << elems);
  REQUIRE_OK(
      f.device->convert(f.stream, out.span(), dtype_of<Out>, in.span(), dtype_of<In>, nullptr));
  REQUIRE(out.read() == bytes_of_values(plain));
  REQUIRE_OK(f.device->convert(f.stream, out.span(), dtype_of<Out>, in.span(), dtype_of<In>,
                               times.as<float>()));
  REQUIRE(out.read() == bytes_of_values(scaled));
}

template <typename Out>
void check_converts(Fixture& f) {
  for (const std::size_t elems : kSizes) {
    for (const std::size_t skew : {0, 1}) {
      check_convert<Out, float>(f, elems, skew);
      check_convert<Out, Half>(f, elems, skew);
      check_convert<Out, BFloat16>(f, elems, skew);
    }
  }
}

}  // namespace

TEST_CASE("a device converts to the host's bits") {
  Fixture f;
  check_converts<float>(f);
  check_converts<Half>(f);
  check_converts<BFloat16>(f);
}

TEST_CASE("a device derives the scalars of a step from norms to the host's bits") {
  Fixture f;
  const std::vector<UpdateScalars> bases(2, {.scale = 0.5, .rate = 0.1, .decay = 0.01});
  const std::vector<NormPart> parts = {{1, 1}, {0, 0}, {2, 1}};
  const std::vector<double> squares = {4, 9, 0.3, 0.7, 25, 11};
  const Block bases_there = f.block(bytes_of_values(bases));
  const Block parts_there = f.block(bytes_of_values(parts));
  const Block squares_there = f.block(bytes_of_values(squares));
  const Block scaled = f.block(std::vector<std::byte>(3 * sizeof(UpdateScalars)));
  for (const double workers : {0.0, 3.0}) {
    const std::vector<double> count = {workers};
    const Block count_there = f.block(bytes_of_values(count));
    const Block gate = f.block(bytes_of_values(std::vector<double>{0}));
    const NormScaling scaling{
        .clip_norm = 1, .by_parameter = true, .trust = 0.01, .weight_decay = 0.01};
    NormInputs inputs{bases.data(), parts.data(), 3, squares.data(), 3, count.data()};
    const double total = norm_total(inputs);
    std::vector<UpdateScalars> expected;
    for (std::uint64_t p = 0; p < 3; ++p) {
      expected.push_back(norm_scalars(scaling, inputs, total, p));
    }
    const double expected_gate = norm_gate(scaling, inputs, total);
    inputs.bases = bases_there.as<UpdateScalars>();
    inputs.parts = parts_there.as<NormPart>();
    inputs.squares = squares_there.as<double>();
    inputs.contributors = count_there.as<double>();
    REQUIRE_OK(f.device->scale_by_norms(f.stream, scaling, inputs, scaled.as<UpdateScalars>(),
                                        gate.as<double>()));
    REQUIRE(gate.read() == bytes_of_values(std::vector<double>{expected_gate}));
    REQUIRE(std::isfinite(expected_gate) == (workers > 0));
    if (workers > 0) REQUIRE(scaled.read() == bytes_of_values(expected));
  }
}

TEST_CASE("marks pass in the order of their streams, and waits order streams") {
  Fixture f;
  const Stream other = f.device->make_stream(StreamPriority::high).value();
  const std::vector<std::byte> ones(std::size_t{1} << 20, std::byte{1});
  const Block from = f.block(ones);
  const Block middle = f.block(std::vector<std::byte>(ones.size()));
  const Block to = f.block(std::vector<std::byte>(ones.size()));
  for (int round = 0; round < 20; ++round) {
    REQUIRE_OK(f.device->fill(f.stream, DType::u8, from.span(), round));
    const Event begin = f.device->record(f.stream).value();
    REQUIRE_OK(f.device->copy(f.stream, middle.span(), from.span()));
    const Event copied = f.device->record(f.stream).value();
    REQUIRE_OK(f.device->wait(other, copied));
    REQUIRE_OK(f.device->copy(other, to.span(), middle.span()));
    const Event end = f.device->record(other).value();
    REQUIRE_OK(f.device->wait(f.stream, end));
    REQUIRE_OK(f.device->synchronize(other));
    REQUIRE(f.device->passed(begin).value());
    REQUIRE(f.device->passed(copied).value());
    REQUIRE(f.device->passed(end).value());
    REQUIRE(f.device->elapsed(begin, end).value() >= Duration(0));
    REQUIRE_FALSE(f.device->capturing(other).value());
    for (const Event event : {begin, copied, end}) f.device->release_event(event);
    REQUIRE(to.read() == std::vector<std::byte>(ones.size(), static_cast<std::byte>(round)));
  }
}

TEST_CASE("memory of a device is zeroed, aligned, and reached where it lies") {
  Fixture f;
  REQUIRE_FALSE(f.device->name().empty());
  REQUIRE_FALSE(f.device->uuid().empty());
  REQUIRE_OK(f.device->make_current());
  for (const MemoryKind kind : {MemoryKind::device, MemoryKind::pinned}) {
    const auto memory = f.device->allocate(10001_B, kind).value();
    REQUIRE(memory.kind() == kind);
    REQUIRE(reinterpret_cast<std::uintptr_t>(memory.bytes().data()) % 256 == 0);
    std::vector<std::byte> read(memory.bytes().size(), std::byte{1});
    REQUIRE_OK(f.device->copy(f.stream, read, memory.bytes()));
    REQUIRE_OK(f.device->synchronize(f.stream));
    REQUIRE(read == std::vector<std::byte>(memory.bytes().size()));
    if (kind == MemoryKind::pinned) continue;
    const auto address = f.device->address(memory).value();
    const auto same = f.device->attach(address).value();
    REQUIRE(same.bytes().data() == memory.bytes().data());
    REQUIRE(same.bytes().size() == memory.bytes().size());
  }
  std::vector<std::byte> own(4096);
  const auto pinned = f.device->pin(own);
  REQUIRE_OK(pinned);
  REQUIRE(pinned->bytes().data() == own.data());
}

}  // namespace dist
