// SPDX-License-Identifier: Apache-2.0
// What is not the same for all elements: clipping, the ratios of Lars, weight decay with
// exemptions.
#include <cmath>
#include <cstring>
#include <vector>

#include "libdist/update.h"
#include "libdist/update_loops.h"
#include "tests/support/catch.h"

namespace {

using namespace dist;
using test::Approx;

using Doubles = std::vector<double>;

std::span<std::byte> bytes(Doubles& values) { return std::as_writable_bytes(std::span(values)); }

// Three parameters of 4, 3 and 5 elements; the second one does not decay.
UpdateLayout layout() { return {Elems(12), {{0, 0, true}, {4, 1, false}, {7, 2, true}}, 3}; }

Updater make(const Update& update) { return Updater::create(update, layout(), DType::f64).value(); }

Doubles numbers(double first, double step) {
  Doubles values;
  for (int i = 0; i < 12; ++i) values.push_back(first + step * i * (i % 2 == 0 ? 1 : -1));
  return values;
}

// A step in parts, as shards would take it.
void apply(Updater& updater, Doubles& parameters, Doubles& gradients, const UpdateStep& given,
           const std::vector<std::uint64_t>& cuts) {
  Doubles squares(updater.square_count(), 0);
  for (std::size_t c = 0; c + 1 < cuts.size(); ++c) {
    const auto n = cuts[c + 1] - cuts[c];
    updater.add_squares(bytes(parameters).subspan(cuts[c] * 8, n * 8),
                        bytes(gradients).subspan(cuts[c] * 8, n * 8), cuts[c], squares);
  }
  auto step = given;
  step.squares = squares;
  for (std::size_t c = 0; c + 1 < cuts.size(); ++c) {
    const auto n = cuts[c + 1] - cuts[c];
    updater.apply(bytes(parameters).subspan(cuts[c] * 8, n * 8),
                  bytes(gradients).subspan(cuts[c] * 8, n * 8), cuts[c], step);
  }
}

double norm(const Doubles& values, std::size_t begin, std::size_t end) {
  double squares = 0;
  for (auto i = begin; i < end; ++i) squares += values[i] * values[i];
  return std::sqrt(squares);
}

TEST_CASE("parameters without weight decay are left out of it") {
  for (const auto name : update_rule_names()) {
    if (name == "lars") continue;
    UpdateRule with = make_update_rule(name, 0.1).value();
    UpdateRule without = with;
    set_weight_decay(with, 0.25);
    set_weight_decay(without, 0);
    Doubles mixed = numbers(1, 0.25);
    Doubles decayed = mixed;
    Doubles plain = mixed;
    Doubles gradients = numbers(-2, 0.125);
    auto updater = make(with);
    Updater all(with, Elems(12), DType::f64);
    Updater none(without, Elems(12), DType::f64);
    for (std::uint64_t step = 0; step < 3; ++step) {
      apply(updater, mixed, gradients, {0.5, step}, {0, 2, 5, 12});
      apply(all, decayed, gradients, {0.5, step}, {0, 12});
      apply(none, plain, gradients, {0.5, step}, {0, 12});
    }
    for (std::size_t i = 0; i < 12; ++i) {
      INFO(name << ", element " << i);
      CHECK(decayed[i] != plain[i]);
      CHECK(mixed[i] == (i >= 4 && i < 7 ? plain[i] : decayed[i]));
    }
  }
}

TEST_CASE("clipping scales the mean gradient of all parameters to the norm, and only down") {
  Update update = Sgd{.learning_rate = 1};
  update.clip_norm = 1;
  Doubles gradients = numbers(2, 0.5);  // sums over two workers
  const double mean_norm = norm(gradients, 0, 12) / 2;
  for (const auto& cuts : {std::vector<std::uint64_t>{0, 12}, {0, 3, 4, 9, 12}}) {
    Doubles parameters(12, 0);
    auto updater = make(update);
    apply(updater, parameters, gradients, {0.5, 0}, cuts);
    CHECK(norm(parameters, 0, 12) == Approx(mean_norm / (mean_norm + 1e-6)).epsilon(1e-12));
    CHECK(parameters[3] == Approx(-gradients[3] / 2 / (mean_norm + 1e-6)).epsilon(1e-12));
  }
  update.clip_norm = 1000;
  Doubles parameters(12, 0);
  auto updater = make(update);
  apply(updater, parameters, gradients, {0.5, 0}, {0, 12});
  CHECK(parameters[3] == -gradients[3] / 2);
}

// The paper's algorithm 1, parameter by parameter.
TEST_CASE("20 steps of lars are its paper's") {
  const Lars rule{.learning_rate = 0.5, .momentum = 0.9, .weight_decay = 0.01, .trust = 0.02};
  Doubles parameters = numbers(1, 0.25);
  Doubles expected = parameters;
  Doubles velocity(12, 0);
  auto updater = make(rule);
  for (std::uint64_t step = 0; step < 20; ++step) {
    Doubles gradients = numbers(static_cast<double>(step % 5) - 2, 0.125);
    if (step == 7) gradients.assign(12, 0);
    for (const auto& [begin, end] : {std::pair(0, 4), {4, 7}, {7, 12}}) {
      const auto b = static_cast<std::size_t>(begin);
      const auto e = static_cast<std::size_t>(end);
      const bool decays = begin != 4;
      const double w = norm(expected, b, e);
      const double g = norm(gradients, b, e) / 4;
      const double decay = decays ? rule.weight_decay : 0;
      const double ratio = decays && g > 0 ? rule.trust * w / (g + decay * w) : 1;
      for (auto i = b; i < e; ++i) {
        velocity[i] = rule.momentum * velocity[i] +
                      rule.learning_rate * ratio * (gradients[i] / 4 + decay * expected[i]);
        expected[i] -= velocity[i];
      }
    }
    apply(updater, parameters, gradients, {0.25, step}, {0, 5, 8, 12});
    for (std::size_t i = 0; i < 12; ++i) {
      INFO("step " << step << ", element " << i);
      REQUIRE(parameters[i] == Approx(expected[i]).epsilon(1e-12));
    }
  }
}

TEST_CASE("the sum of squares has the same bits on every instruction set") {
  for (const std::size_t n : {0u, 1u, 15u, 16u, 17u, 1000u}) {
    std::vector<float> values;
    double expected = 0;
    for (std::size_t i = 0; i < n; ++i) {
      values.push_back(0.1f * static_cast<float>(i) - 3);
      expected += static_cast<double>(values.back()) * static_cast<double>(values.back());
    }
    const auto raw = std::as_bytes(std::span(values));
    const double portable = sum_of_squares_on(InstructionSet::portable, DType::f32, raw);
    CHECK(portable == Approx(expected).epsilon(1e-12));
    for (const auto set : usable_instruction_sets()) {
      CHECK(sum_of_squares_on(set, DType::f32, raw) == portable);
    }
  }
}

TEST_CASE("the learning rate of a step is its schedule's") {
  Update update = Sgd{.learning_rate = 0.5};
  update.schedule = {StepDecay{.interval_steps = 2, .factor = 0.5}, 2};
  Updater updater(update, Elems(1), DType::f64);
  Doubles p{0};
  Doubles gradient{-1};
  Doubles seen;
  for (std::uint64_t step = 0; step < 4; ++step) {
    p[0] = 0;
    updater.apply(bytes(p), bytes(gradient), 0, {.step = step});
    seen.push_back(p[0]);
  }
  CHECK(seen == Doubles{0.25, 0.5, 0.25, 0.25});
}

TEST_CASE("the layout of an arena begins where its parameters begin") {
  const auto arena = Arena::create({{"a", Elems(5)}, {"b", Elems(20), DType::f32, false}}).value();
  const auto made = layout_of(arena);
  CHECK(made.elems == arena.elems());
  CHECK(made.parameters == 2);
  REQUIRE(made.parts.size() == 2);
  CHECK(made.parts[0].begin == 0);
  CHECK(made.parts[0].decays);
  CHECK(made.parts[1].begin == arena.range(1).begin);
  CHECK(made.parts[1].parameter == 1);
  CHECK(!made.parts[1].decays);
}

TEST_CASE("an update's description and its checks cover all parts") {
  Update update = Sgd{};
  CHECK(!needs_norms(update));
  CHECK(needs_norms(Lars{}));
  CHECK(describe(update) == "sgd (learning_rate 0.01, weight_decay 0), schedule constant");
  update.clip_norm = 2.5;
  CHECK(needs_norms(update));
  CHECK(describe(update) ==
        "sgd (learning_rate 0.01, weight_decay 0), schedule constant, clip_norm 2.5");
  REQUIRE_OK(validate(update));
  update.clip_norm = -1;
  CHECK(Updater::create(update, layout(), DType::f32).status().message() ==
        "clip_norm is -1; it must be a number above 0, or 0 for off");
  update = Momentum{};
  update.schedule = {StepDecay{.interval_steps = 0}};
  CHECK(!validate(update).ok());
}

}  // namespace
