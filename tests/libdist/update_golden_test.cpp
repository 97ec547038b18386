// SPDX-License-Identifier: Apache-2.0
// Every rule and schedule against 20 steps of PyTorch; tests/golden/make_update_golden.py.
#include <cmath>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "libdist/update.h"
#include "tests/support/catch.h"

namespace {

using namespace dist;
using nlohmann::json;

json golden() {
  std::ifstream file(std::string(DIST_SOURCE_DIR) + "/tests/golden/update.json");
  REQUIRE(file.good());
  return json::parse(file);
}

// As the script's.
template <typename T>
std::vector<T> gradient(std::uint64_t step, std::size_t elems) {
  std::vector<T> values;
  for (std::size_t i = 0; i < elems; ++i) {
    const auto mixed = static_cast<int>((7 * step + 5 * i) % 13) - 6;
    values.push_back(step % 6 == 5 ? T(0) : static_cast<T>(mixed) / 8);
  }
  return values;
}

template <typename T>
void check_against(const json& expected, const Update& update, double tolerance) {
  const std::size_t elems = expected.front().size();
  std::vector<T> parameters;
  for (std::size_t i = 0; i < elems; ++i) parameters.push_back(static_cast<T>(i + 1) / 4);
  Updater updater(update, Elems(elems), dtype_of<T>);
  for (std::uint64_t step = 0; step < expected.size(); ++step) {
    // Of four workers.
    auto sum = gradient<T>(step, elems);
    for (T& value : sum) value *= 4;
    const auto bytes = std::as_bytes(std::span(sum));
    std::vector<double> squares(updater.square_count(), 0);
    updater.add_squares(std::as_bytes(std::span(parameters)), bytes, 0, squares);
    updater.apply(std::as_writable_bytes(std::span(parameters)), bytes, 0, {0.25, step, squares});
    for (std::size_t i = 0; i < elems; ++i) {
      const double wanted = expected[step][i];
      INFO(describe(update) << ", step " << step << ", element " << i << ": " << parameters[i]
                            << ", PyTorch " << wanted);
      REQUIRE(std::abs(static_cast<double>(parameters[i]) - wanted) <= tolerance);
    }
  }
}

TEST_CASE("20 steps of every rule are PyTorch's") {
  const json all = golden();
  REQUIRE(all.at("rules").size() == 8);  // every rule but lars, which PyTorch has not
  for (const auto& [name, values] : all.at("rules").items()) {
    Update update = make_update_rule(name, values.at("learning_rate").get<double>()).value();
    if (auto* adagrad = std::get_if<Adagrad>(&update.rule)) adagrad->learning_rate_decay = 0.125;
    set_weight_decay(update.rule, 0);
    check_against<double>(values.at("plain"), update, 1e-12);
    update.clip_norm = all.at("clip_norm");
    check_against<double>(values.at("clip"), update, 1e-12);
    update.clip_norm = 0;
    set_weight_decay(update.rule, all.at("weight_decay"));
    check_against<double>(values.at("decay"), update, 1e-12);
    check_against<float>(values.at("decay_f32"), update, 1e-6);
  }
}

TEST_CASE("20 steps of every schedule are PyTorch's") {
  const json all = golden();
  Update update = Momentum{.learning_rate = 0.1};
  update.schedule = {StepDecay{.interval_steps = 6, .factor = 0.5}};
  check_against<double>(all.at("schedules").at("step"), update, 1e-12);
  update.schedule = {CosineDecay{.total_steps = 20, .floor = 0.25}};
  check_against<double>(all.at("schedules").at("cosine"), update, 1e-12);
}

}  // namespace
