// SPDX-License-Identifier: Apache-2.0
// The trainers' networks by name. Layers, padding and initial values follow the original papers;
// each model's file names its source and its choices.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "examples/nn/graph.h"

namespace nn::models {

struct ModelOptions {
  std::int64_t image = 0;    ///< Height and width of the input; 0: the model's native size.
  double dropout = -1;       ///< Rate of every dropout layer; negative: the paper's.
  std::int64_t classes = 0;  ///< 0: the model's own (1000; small_cnn: 10).
};

/// vgg16, vgg19, resnet50, resnet152, inception_v4, small_cnn. An unknown name is an error that
/// lists these; an image too small for the layers is an error that names the smallest that fits.
dist::Result<Graph> make_model(std::string_view name, const ModelOptions& options = {});

/// The valid names, in the order above.
const std::vector<std::string>& model_names();
/// 224, 299 or 32; 0 for an unknown name.
std::int64_t native_image(std::string_view name);
/// A printable table: layer, kind, output shape, parameters, MFLOP forward; then the totals.
std::string describe(const Graph& graph);

}  // namespace nn::models
