// SPDX-License-Identifier: Apache-2.0
// A model as a record, for programs that set a measured step against the work in it.
#pragma once

#include "examples/nn/graph.h"
#include "examples/train/options.h"

namespace train {

/// Appends one line of JSON to options.json: record "model" with name, image, classes, parameters,
/// activation_elements, forward_flop and train_flop of an image, and for every node what
/// nn::train_costs counts.
dist::Status append_model_record(const TrainOptions& options, const nn::Graph& graph);

}  // namespace train
