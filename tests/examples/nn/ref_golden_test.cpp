// SPDX-License-Identifier: Apache-2.0
// The reference backend against PyTorch: every model's loss and gradients, and ten training losses.
#include "tests/examples/golden_check.h"
#include "tests/support/catch.h"

using nn::test::check_golden;

TEST_CASE("ref in f64 agrees with PyTorch within 1e-8", "[golden]") {
  const std::string model =
      GENERATE("small_cnn", "vgg16", "vgg19", "resnet50", "resnet152", "inception_v4");
  check_golden(model, "ref", dist::DType::f64, {});
}

TEST_CASE("ref in f32 agrees with PyTorch within 1e-3", "[golden]") {
  const std::string file = GENERATE("small_cnn", "vgg16", "vgg19", "resnet50_open",
                                    "resnet152_open", "inception_v4_open");
  check_golden(file, "ref", dist::DType::f32, nn::test::kFloat32);
}

TEST_CASE("ten training losses of small_cnn", "[golden]") {
  nn::test::check_training_losses("ref", dist::DType::f64, 1e-8);
  nn::test::check_training_losses("ref", dist::DType::f32, 1e-4);
}
