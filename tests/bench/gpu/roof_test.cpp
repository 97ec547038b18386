// SPDX-License-Identifier: Apache-2.0
#include "bench/gpu/roof.h"

#include "tests/bench/gpu/facts.h"
#include "tests/support/catch.h"

namespace dist::bench::gpu {
namespace {

using test::Approx;

// 1 TFLOP/s in f32, 10 in f16, 100 GB/s.
constexpr Peak kDevice{"one", 1, 2, 10, 100};

}  // namespace

TEST_CASE("the work in a step, by hand") {
  const ModelFacts model = test::small_model("m");
  const Work work = work_of(model, "f16", 10, kDevice);
  CHECK(work.flop == Approx(10 * 3e9));
  // Forward 10 x (2 + 3)e6 activations, backward 10 x (4 + 5)e6; weights three times; the update.
  CHECK(work.bytes == Approx(2 * (10 * 14e6 + 3 * 1e6) + 20 * 1e6));
  // conv: arithmetic, 1 ms forward and 2 ms backward; batch norm: memory.
  CHECK(work.roof_s == Approx(10e9 / 10e12 + 20e9 / 10e12 + 2 * 80e6 / 100e9));
}

TEST_CASE("f32 moves twice as much at its own peak; tf32 has the bytes of f32") {
  const ModelFacts model = test::small_model("m");
  const Work f32 = work_of(model, "f32", 10, kDevice);
  CHECK(f32.bytes == Approx(4 * (10 * 14e6 + 3 * 1e6) + 20 * 1e6));
  CHECK(f32.roof_s == Approx(30e9 / 1e12 + 4 * 80e6 / 100e9));
  CHECK(work_of(model, "tf32", 10, kDevice).bytes == f32.bytes);
}

TEST_CASE("fractions: a step at the roof is 1, half as fast is a half") {
  const Work work = work_of(test::small_model("m"), "f16", 10, kDevice);
  const Fraction best = fraction_of(work, 10, 10 / work.roof_s, "f16", kDevice);
  CHECK(best.of_roof == Approx(1));
  const Fraction half = fraction_of(work, 10, 5 / work.roof_s, "f16", kDevice);
  CHECK(half.of_roof == Approx(0.5));
  CHECK(half.of_flops == Approx(work.flop / (2 * work.roof_s) / 10e12));
  CHECK(half.of_bytes == Approx(work.bytes / (2 * work.roof_s) / 100e9));
  CHECK(fraction_of(work, 10, 0, "f16", kDevice).of_roof == 0);
}

TEST_CASE("a profile is added up by kind of layer") {
  const nlohmann::json profile = {
      {"batch", 10},
      {"nodes",
       {{{"name", "conv1"}, {"forward_ms", 1.0}, {"backward_ms", 2.0}},
        {{"name", "bn1"}, {"forward_ms", 0.5}, {"backward_ms", 0.25}}}}};
  const auto kinds = by_kind(test::small_model("m"), profile, "f16");
  REQUIRE_OK(kinds);
  REQUIRE(kinds->size() == 2);
  CHECK(kinds->at("conv").layers == 1);
  CHECK(kinds->at("conv").backward_ms == 2);
  CHECK(kinds->at("conv").flop == Approx(30e9));
  CHECK(kinds->at("batch_norm").forward_ms == 0.5);
  CHECK(kinds->at("batch_norm").bytes == Approx(2 * 80e6));
}

TEST_CASE("a profile of another model and one without times are errors") {
  const nlohmann::json other = {
      {"batch", 1}, {"nodes", {{{"name", "conv9"}, {"forward_ms", 1.0}, {"backward_ms", 2.0}}}}};
  const auto kinds = by_kind(test::small_model("m"), other, "f16");
  REQUIRE_FALSE(kinds.ok());
  CHECK(kinds.status().message().find("conv9") != std::string::npos);
  CHECK_FALSE(by_kind(test::small_model("m"), {{"batch", 1}}, "f16").ok());
}

TEST_CASE("a model's record is taken apart; what is missing is named") {
  nlohmann::json record = {{"model", "m"},
                           {"parameters", 5},
                           {"activation_elements", 6},
                           {"train_flop", 7},
                           {"nodes",
                            {{{"name", "a"},
                              {"kind", "conv"},
                              {"forward_flop", 1},
                              {"backward_flop", 2},
                              {"forward_elements", 3},
                              {"backward_elements", 4},
                              {"parameters", 5}}}}};
  const auto model = parse_model(record);
  REQUIRE_OK(model);
  CHECK(model->train_flop == 7);
  REQUIRE(model->nodes.size() == 1);
  CHECK(model->nodes[0].backward_elements == 4);
  record.erase("train_flop");
  const auto broken = parse_model(record);
  REQUIRE_FALSE(broken.ok());
  CHECK(broken.status().message().find("train_flop") != std::string::npos);
}

}  // namespace dist::bench::gpu
