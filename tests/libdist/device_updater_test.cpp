// SPDX-License-Identifier: Apache-2.0
// The update on a device against the host's, bit for bit.
#include "libdist/device_updater.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "libdist/memory/reduce.h"
#include "tests/support/catch.h"
#include "tests/support/fake_device.h"
#include "tests/support/ranks.h"

namespace dist {
namespace {

using test::FakeDevice;

std::vector<UpdateRule> rules() {
  return {
      Sgd{.weight_decay = 1e-2},           Momentum{.weight_decay = 1e-2}, Nesterov{}, RmsProp{},
      Adagrad{.learning_rate_decay = 0.1}, Adam{.weight_decay = 1e-3},     AdamW{},    Nadam{},
      Lars{.weight_decay = 1e-3}};
}

// Three parameters, the second without weight decay, with gaps.
UpdateLayout layout() { return {Elems(200), {{0, 0, true}, {64, 1, false}, {100, 2, true}}, 3}; }

template <typename T>
std::vector<T> values(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<double> between(-1, 1);
  std::vector<T> made(count);
  for (T& value : made) value = static_cast<T>(between(random));
  return made;
}

template <typename T>
std::span<std::byte> raw(std::vector<T>& values) {
  return std::as_writable_bytes(std::span(values));
}

/// One training of both updaters from the same values.
template <typename T>
struct Twins {
  FakeDevice device{{.seed = 7, .most_delay = std::chrono::microseconds(30)}};
  Stream stream = device.make_stream(StreamPriority::normal).value();
  Updater host;
  DeviceUpdater there;
  std::vector<T> parameters = values<T>(200, 1);
  DeviceMemory memory;

  explicit Twins(const Update& update)
      : host(Updater::create(update, layout(), dtype_of<T>).value()),
        there(DeviceUpdater::create(device, update, layout(), dtype_of<T>).value()),
        memory(device.allocate(Bytes(200 * sizeof(T)), MemoryKind::device).value()) {
    test::expect_ok(device.copy(stream, memory.bytes(), raw(parameters)));
    test::expect_ok(device.synchronize(stream));
  }

  /// One step from the sum of so many gradients, cut into ranges on the device.
  void step(std::uint64_t number, std::size_t gradients, const double* contributors = nullptr,
            double scale = 0.5) {
    std::vector<std::vector<T>> made;
    std::vector<std::span<const std::byte>> sources;
    for (std::size_t k = 0; k < gradients; ++k) {
      made.push_back(values<T>(200, static_cast<unsigned>(100 * number + k)));
      sources.push_back(raw(made.back()));
    }
    std::vector<T> total(200);
    const std::array<std::span<std::byte>, 1> out = {raw(total)};
    reduce_in_order(out, sources, dtype_of<T>, Reduction::sum);
    apply(number, sources, total, contributors, scale);
  }

  void apply(std::uint64_t number, const std::vector<std::span<const std::byte>>& sources,
             std::vector<T>& total, const double* contributors, double scale) {
    UpdateStep host_step{.gradient_scale = scale, .step = number};
    std::vector<double> squares(host.square_count());
    host.add_squares(raw(parameters), raw(total), 0, squares);
    host_step.squares = squares;
    host.apply_sum(raw(parameters), sources, 0, host_step);

    test::expect_ok(there.begin_step(
        stream, {.gradient_scale = contributors != nullptr ? 77 : scale, .step = number},
        contributors));
    test::expect_ok(there.add_squares(stream, memory.bytes(), raw(total), 0));
    test::expect_ok(there.settle(stream));
    for (const Range range : {Range{0, 70}, Range{70, 71}, Range{71, 200}}) {
      const auto part = [&](auto bytes) {
        return bytes.subspan(range.begin * sizeof(T), range.elems() * sizeof(T));
      };
      std::vector<std::span<const std::byte>> cut;
      for (const auto& source : sources) cut.push_back(part(source));
      test::expect_ok(there.apply_sum(stream, part(memory.bytes()), cut, range.begin));
    }
    test::expect_ok(device.synchronize(stream));
  }

  bool equal() const {
    bool same = std::memcmp(parameters.data(), memory.bytes().data(), memory.bytes().size()) == 0;
    for (std::size_t k = 0; k < host.state_arrays(); ++k) {
      const auto a = host.state(k, {0, 200});
      const auto b = there.state(k, {0, 200});
      same = same && std::memcmp(a.data(), b.data(), a.size()) == 0;
    }
    return same;
  }
};

template <typename T>
void check(const Update& update) {
  INFO(describe(update) << ", " << name_of(dtype_of<T>));
  Twins<T> twins(update);
  REQUIRE(twins.there.state_arrays() == twins.host.state_arrays());
  REQUIRE(twins.there.state_bytes() == twins.host.state_bytes());
  REQUIRE(twins.there.squares().size() == twins.host.square_count());
  const auto before = twins.parameters;
  for (std::uint64_t number = 0; number < 4; ++number) {
    twins.step(number, std::array{1, 3, 6, 1}[number]);
    REQUIRE(twins.equal());
  }
  REQUIRE(twins.parameters != before);
}

}  // namespace

TEST_CASE("every rule gives the host's bits, with a schedule and with clipping") {
  for (const UpdateRule& rule : rules()) {
    Update update(rule);
    check<float>(update);
    check<double>(update);
    update.schedule.warmup_steps = 3;
    update.clip_norm = 0.25;
    check<float>(update);
    check<double>(update);
  }
}

TEST_CASE("the mean over contributors that only the device knows has the host's bits") {
  for (const double clip_norm : {0.0, 0.25}) {
    Update update(Momentum{.weight_decay = 1e-2});
    update.clip_norm = clip_norm;
    Twins<float> twins(update);
    const double three = 3;
    twins.step(0, 3, &three, 1.0 / 3);
    REQUIRE(twins.equal());
    // Nobody: nothing changes, and the next step goes on.
    const auto before = twins.parameters;
    const double nobody = 0;
    auto gradient = values<float>(200, 9);
    REQUIRE_OK(twins.there.begin_step(twins.stream, {.step = 1}, &nobody));
    REQUIRE_OK(twins.there.settle(twins.stream));
    REQUIRE_OK(twins.there.apply(twins.stream, twins.memory.bytes(), raw(gradient), 0));
    REQUIRE_OK(twins.device.synchronize(twins.stream));
    REQUIRE(twins.equal());
    REQUIRE(twins.parameters == before);
    twins.step(2, 1, &three, 1.0 / 3);
    REQUIRE(twins.equal());
    REQUIRE(twins.parameters != before);
  }
}

TEST_CASE("an update is left out where a gradient is not finite, on the host and on the device") {
  for (const float bad :
       {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    Update update(Adam{});
    update.skip_not_finite = true;
    Twins<float> twins(update);
    twins.step(0, 1);
    const auto before = twins.parameters;
    auto gradient = values<float>(200, 3);
    gradient[150] = bad;
    twins.apply(1, {raw(gradient)}, gradient, nullptr, 1);
    REQUIRE(twins.equal());
    REQUIRE(twins.parameters == before);
    double gate = 0;
    REQUIRE_OK(twins.device.copy(twins.stream, std::as_writable_bytes(std::span(&gate, 1)),
                                 std::as_bytes(std::span(twins.there.gate(), 1))));
    REQUIRE_OK(twins.device.synchronize(twins.stream));
    REQUIRE_FALSE(std::isfinite(gate));
    twins.step(2, 1);
    REQUIRE(twins.equal());
    REQUIRE(twins.parameters != before);
  }
}

TEST_CASE("to see whether all is finite takes one pass, whatever the number of parameters") {
  const auto kernels = [](const Update& update) {
    FakeDevice device;
    const auto stream = device.make_stream(StreamPriority::normal).value();
    auto updater = DeviceUpdater::create(device, update, layout(), DType::f32).value();
    auto memory = device.allocate(Bytes(200 * sizeof(float)), MemoryKind::device).value();
    device.forget_calls();
    REQUIRE_OK(updater.begin_step(stream, {}));
    REQUIRE_OK(updater.add_squares(stream, memory.bytes(), memory.bytes(), 0));
    REQUIRE_OK(updater.settle(stream));
    REQUIRE_OK(updater.apply(stream, memory.bytes(), memory.bytes(), 0));
    REQUIRE_OK(device.synchronize(stream));
    const auto calls = device.calls();
    return std::pair(std::ranges::count(calls, "add_squares", &test::FakeCall::operation),
                     std::ranges::count(calls, "update", &test::FakeCall::operation));
  };
  Update update(Momentum{});
  update.skip_not_finite = true;
  CHECK(kernels(update) == std::pair<std::ptrdiff_t, std::ptrdiff_t>(1, 1));
  update.clip_norm = 1;
  CHECK(kernels(update) == std::pair<std::ptrdiff_t, std::ptrdiff_t>(3, 3));
}

TEST_CASE("a step's numbers stay until the device has read them") {
  FakeDevice device;
  const auto stream = device.make_stream(StreamPriority::normal).value();
  auto made = DeviceUpdater::create(device, Sgd{.learning_rate = 1}, {Elems(1)}, DType::f64,
                                    std::chrono::milliseconds(20));
  REQUIRE_OK(made);
  auto updater = *std::move(made);
  auto parameter = device.allocate(8_B, MemoryKind::pinned).value();
  double gradient = 1;
  const auto bytes = std::as_bytes(std::span(&gradient, 1));
  device.hold(stream);
  for (const double scale : {1.0, 10.0}) {
    REQUIRE_OK(updater.begin_step(stream, {.gradient_scale = scale}));
    REQUIRE_OK(updater.apply(stream, parameter.bytes(), bytes, 0));
  }
  const Status late = updater.begin_step(stream, {.gradient_scale = 100});
  REQUIRE(late.code() == ErrorCode::timed_out);
  device.let_go(stream);
  REQUIRE_OK(device.synchronize(stream));
  REQUIRE_OK(updater.begin_step(stream, {.gradient_scale = 100}));
  // As a captured step that is launched again: the same work, other numbers.
  REQUIRE_OK(updater.apply(stream, parameter.bytes(), bytes, 0));
  REQUIRE_OK(device.synchronize(stream));
  REQUIRE(*reinterpret_cast<const double*>(parameter.bytes().data()) == -111);
}

TEST_CASE("errors of the device reach the caller of an updater, and nothing leaks") {
  FakeDevice device;
  for (const char* call : {"allocate", "copy", "make_stream", "synchronize"}) {
    device.fail(call, Status::resource("no more"));
    const auto failed = DeviceUpdater::create(device, Adam{}, {Elems(10)}, DType::f32);
    REQUIRE(failed.status().code() == ErrorCode::resource);
    REQUIRE(device.allocations() == 0);
  }
  REQUIRE_FALSE(DeviceUpdater::create(device, Adam{}, {Elems(10)}, DType::i32).ok());
  REQUIRE_FALSE(DeviceUpdater::create(device, Sgd{.learning_rate = NAN}, {}, DType::f32).ok());
  {
    auto updater = DeviceUpdater::create(device, Adam{}, {Elems(10)}, DType::f32).value();
    device.fail("copy", Status::unavailable("gone"));
    REQUIRE(updater.begin_step({}, {}).message() == "update -> copy -> gone");
    REQUIRE_OK(updater.begin_step({}, {}));
    auto other = DeviceUpdater::create(device, Sgd{}, {Elems(10)}, DType::f32).value();
    other = std::move(updater);
    REQUIRE(other.state_arrays() == 2);
    REQUIRE(device.events_out() == 1);
  }
  REQUIRE(device.allocations() == 0);
  REQUIRE(device.events_out() == 0);
}

}  // namespace dist
