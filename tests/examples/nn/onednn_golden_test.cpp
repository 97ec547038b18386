// SPDX-License-Identifier: Apache-2.0
// The oneDNN backend against PyTorch: every model's loss and gradients in float32, and ten training
// losses.
#include "tests/examples/golden_check.h"
#include "tests/support/catch.h"

TEST_CASE("onednn in f32 agrees with PyTorch within 1e-3", "[golden]") {
  const std::string file = GENERATE("small_cnn", "vgg16", "vgg19", "resnet50_open",
                                    "resnet152_open", "inception_v4_open");
  nn::test::check_golden(file, "onednn", dist::DType::f32, nn::test::kFloat32);
}

TEST_CASE("ten training losses of small_cnn on onednn", "[golden]") {
  nn::test::check_training_losses("onednn", dist::DType::f32, 1e-4);
}
