// SPDX-License-Identifier: Apache-2.0
#include "libdist/update.h"

#include <array>
#include <cmath>
#include <cstring>
#include <string>
#include <vector>

#include "libdist/memory/reduce.h"
#include "libdist/update_loops.h"
#include "tests/support/catch.h"

namespace {

using dist::dtype_of;
using dist::Elems;
using dist::Momentum;
using dist::Nesterov;
using dist::Sgd;
using dist::Updater;
using dist::UpdateRule;
using dist::UpdateStep;

template <typename T>
void apply(Updater& updater, std::vector<T>& parameters, const std::vector<T>& gradients,
           const UpdateStep& step = {}) {
  updater.apply(std::as_writable_bytes(std::span(parameters)), std::as_bytes(std::span(gradients)),
                0, step);
}

// Two steps with gradient 8 from parameter 16; every number is a small binary fraction.
template <typename T>
std::vector<T> two_steps(UpdateRule rule, double scale = 1) {
  Updater updater(rule, Elems(1), dtype_of<T>);
  std::vector<T> p{16};
  std::vector<T> seen;
  for (std::uint64_t step = 0; step < 2; ++step) {
    apply(updater, p, std::vector<T>{8}, {scale, step});
    seen.push_back(p[0]);
  }
  return seen;
}

template <typename T>
void check_formulas() {
  using V = std::vector<T>;
  // p -= 0.25 * 8
  CHECK(two_steps<T>(Sgd{.learning_rate = 0.25}) == V{14, 12});
  // g = 8 + 0.5 * p: 16, then 14
  CHECK(two_steps<T>(Sgd{.learning_rate = 0.25, .weight_decay = 0.5}) == V{12, 8.5});
  // g = 0.5 * 8
  CHECK(two_steps<T>(Sgd{.learning_rate = 0.25}, 0.5) == V{15, 14});
  // v = 8, then 0.5 * 8 + 8 = 12
  CHECK(two_steps<T>(Momentum{.learning_rate = 0.25, .momentum = 0.5}) == V{14, 11});
  // v = g = 16; then g = 8 + 6 = 14, v = 22
  CHECK(two_steps<T>(Momentum{.learning_rate = 0.25, .momentum = 0.5, .weight_decay = 0.5}) ==
        V{12, 6.5});
  // v = 8: 8 + 4 = 12; v = 12: 8 + 6 = 14
  CHECK(two_steps<T>(Nesterov{.learning_rate = 0.25, .momentum = 0.5}) == V{13, 9.5});
  // g = v = 16: 16 + 8 = 24, p = 10; then g = 13, v = 21: 13 + 10.5 = 23.5
  CHECK(two_steps<T>(Nesterov{.learning_rate = 0.25, .momentum = 0.5, .weight_decay = 0.5}) ==
        V{10, 4.125});
}

TEST_CASE("the rules do what their formulas say, in both types") {
  check_formulas<float>();
  check_formulas<double>();
}

// Those that need no norm, with weight decay.
std::vector<UpdateRule> elementwise_rules() {
  std::vector<UpdateRule> rules;
  for (const auto name : dist::update_rule_names()) {
    if (name == "lars") continue;
    rules.push_back(dist::make_update_rule(name, 0.1).value());
    set_weight_decay(rules.back(), 1e-4);
  }
  return rules;
}

// Numbers that do not come out even.
template <typename T>
std::vector<T> uneven(std::size_t n, unsigned seed) {
  std::vector<T> values(n);
  for (auto& value : values) {
    seed = seed * 1664525u + 1013904223u;
    value = static_cast<T>(seed) / static_cast<T>(3e9) - static_cast<T>(0.7);
  }
  return values;
}

template <typename T>
void check_cuts(const UpdateRule& rule) {
  constexpr std::size_t kElems = 103;
  const auto start = uneven<T>(kElems, 1);
  for (const std::size_t piece : {1u, 3u, 7u, 16u, 102u}) {
    auto whole = start;
    auto cut = start;
    Updater whole_updater(rule, Elems(kElems), dtype_of<T>);
    Updater cut_updater(rule, Elems(kElems), dtype_of<T>);
    for (unsigned step = 0; step < 3; ++step) {
      const auto gradients = uneven<T>(kElems, 100 + step);
      apply(whole_updater, whole, gradients, {1.0 / 3, step});
      for (std::size_t first = 0; first < kElems; first += piece) {
        const auto n = std::min(piece, kElems - first);
        cut_updater.apply(std::as_writable_bytes(std::span(cut).subspan(first, n)),
                          std::as_bytes(std::span(gradients).subspan(first, n)), first,
                          {1.0 / 3, step});
      }
    }
    INFO(name_of(rule) << ", pieces of " << piece);
    REQUIRE(whole != start);
    REQUIRE(cut == whole);
  }
}

TEST_CASE("the bits do not depend on how the range is cut") {
  for (const UpdateRule& rule : elementwise_rules()) {
    check_cuts<float>(rule);
    check_cuts<double>(rule);
  }
}

template <typename T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
  return a.size() == b.size() &&
         (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}

template <typename T>
void check_sets(const UpdateRule& rule) {
  for (std::size_t n : {0, 1, 3, 7, 15, 16, 17, 31, 33, 64, 65, 1021}) {
    const auto gradients = uneven<T>(n, 7);
    const auto parameters = uneven<T>(n, 8);
    // As Nadam's and Adam's squares would be.
    auto state = uneven<T>(n, 9);
    for (T& value : state) value = std::abs(value);
    auto scalars = scalars_of(rule, 3, 0.8);
    scalars.scale = 1.0 / 3;
    scalars.rate = 0.1;
    scalars.decay = 1e-4;
    std::vector<std::vector<T>> results;
    for (const auto set : dist::usable_instruction_sets()) {
      auto p = parameters;
      auto first = state;
      auto second = state;
      dist::update_on(set, rule, dtype_of<T>, std::as_writable_bytes(std::span(p)),
                      std::array{std::as_bytes(std::span(gradients))},
                      {std::as_writable_bytes(std::span(first)).data(),
                       std::as_writable_bytes(std::span(second)).data()},
                      scalars);
      p.insert(p.end(), first.begin(), first.end());
      p.insert(p.end(), second.begin(), second.end());
      results.push_back(p);
      INFO(name_of(set) << ", " << name_of(rule) << ", " << n << " elements");
      REQUIRE(same_bits(results.front(), p));
    }
  }
}

TEST_CASE("every instruction set gives the bits of the portable loop") {
  for (const UpdateRule& rule : elementwise_rules()) {
    check_sets<float>(rule);
    check_sets<double>(rule);
  }
}

template <typename T>
void check_sum(const UpdateRule& rule, std::size_t summands, std::size_t n) {
  std::vector<std::vector<T>> gradients;
  std::vector<std::span<const std::byte>> sources;
  for (std::size_t k = 0; k < summands; ++k) {
    gradients.push_back(uneven<T>(n, static_cast<std::uint32_t>(20 + k)));
  }
  for (const auto& gradient : gradients) sources.push_back(std::as_bytes(std::span(gradient)));
  std::vector<T> sum(n);
  const std::array<std::span<std::byte>, 1> out = {std::as_writable_bytes(std::span(sum))};
  dist::reduce_in_order(out, sources, dtype_of<T>, dist::Reduction::sum);

  // Twice, so that the second update meets a velocity.
  auto at_once = uneven<T>(n, 8);
  auto in_steps = at_once;
  Updater first(rule, Elems(n + 5), dtype_of<T>);
  Updater second(rule, Elems(n + 5), dtype_of<T>);
  for (std::uint64_t step = 0; step < 2; ++step) {
    first.apply_sum(std::as_writable_bytes(std::span(at_once)), sources, 5, {1.0 / 3, step});
    second.apply(std::as_writable_bytes(std::span(in_steps)), out.front(), 5, {1.0 / 3, step});
  }
  INFO(name_of(rule) << ", " << summands << " summands, " << n << " elements");
  REQUIRE(same_bits(at_once, in_steps));
}

TEST_CASE("an update by the sum of gradients has the bits of summing first") {
  for (const UpdateRule& rule : elementwise_rules()) {
    for (std::size_t summands = 1; summands <= 9; ++summands) {
      for (const std::size_t n : {0u, 1u, 17u, 1024u, 4099u}) {
        check_sum<float>(rule, summands, n);
        check_sum<double>(rule, summands, n);
      }
    }
  }
}

TEST_CASE("hyper-parameters are rounded to the element type once") {
  Updater updater(Sgd{.learning_rate = 0.1}, Elems(1), dist::DType::f32);
  std::vector<float> p{0};
  apply(updater, p, std::vector<float>{3});
  REQUIRE(p[0] == -(0.1f * 3.0f));
}

TEST_CASE("the learning rate can be changed and the velocity stays") {
  Updater updater(Momentum{.learning_rate = 0.25, .momentum = 0.5}, Elems(1), dist::DType::f32);
  std::vector<float> p{16};
  apply(updater, p, std::vector<float>{8});
  updater.set_learning_rate(0.5);
  apply(updater, p, std::vector<float>{8});
  REQUIRE(p[0] == 14 - 0.5f * 12);
}

TEST_CASE("parameters are f32 or f64, nothing else") {
  for (std::size_t at = 0; at < dist::kDTypes; ++at) {
    const auto dtype = static_cast<dist::DType>(at);
    const auto made = Updater::create(Momentum{}, {Elems(3)}, dtype);
    INFO(name_of(dtype));
    if (dtype == dist::DType::f32 || dtype == dist::DType::f64) {
      REQUIRE_OK(made);
      continue;
    }
    REQUIRE(!made.ok());
    CHECK(made.status().code() == dist::ErrorCode::invalid_argument);
    CHECK(made.status().message() ==
          "update: parameters are f32 or f64, not " + std::string(name_of(dtype)));
  }
}

TEST_CASE("an empty range is fine") {
  Updater updater(Momentum{}, Elems(0), dist::DType::f32);
  std::vector<float> none;
  apply(updater, none, none);
  REQUIRE(none.empty());
}

}  // namespace
