// SPDX-License-Identifier: Apache-2.0
#include "examples/nn/cudnn/loss_scale.h"

#include "tests/support/catch.h"

using namespace nn::cudnn;

namespace {

bool is_exact(const LossScale& s) { return s.scale * s.inverse == 1; }

}  // namespace

TEST_CASE("an overflow halves the loss scale at once, down to one") {
  LossScale scale = dynamic_loss_scale();
  for (float wanted = kFirstLossScale; wanted > 1; wanted /= 2) {
    CHECK(scale.scale == wanted);
    CHECK(is_exact(scale));
    scale = next_loss_scale(scale, true);
  }
  CHECK(scale.scale == 1);
  CHECK(next_loss_scale(scale, true).scale == 1);
}

TEST_CASE("2000 good steps in a row double it, up to the largest") {
  LossScale scale = dynamic_loss_scale();
  for (std::uint32_t step = 1; step < kStepsToGrow; ++step) scale = next_loss_scale(scale, false);
  CHECK(scale.scale == kFirstLossScale);
  CHECK(next_loss_scale(scale, false).scale == 2 * kFirstLossScale);
  // One overflow, and the count begins anew.
  scale = next_loss_scale(scale, true);
  for (std::uint32_t step = 1; step < kStepsToGrow; ++step) scale = next_loss_scale(scale, false);
  CHECK(scale.scale == kFirstLossScale / 2);
  for (std::uint32_t step = 0; step < 20 * kStepsToGrow; ++step) {
    scale = next_loss_scale(scale, false);
    CHECK(is_exact(scale));
  }
  CHECK(scale.scale == kLargestLossScale);
}

TEST_CASE("a fixed loss scale is one") {
  CHECK(next_loss_scale(fixed_loss_scale(), true).scale == 1);
  CHECK(next_loss_scale(fixed_loss_scale(), false).scale == 1);
}
