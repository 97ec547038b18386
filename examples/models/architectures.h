// SPDX-License-Identifier: Apache-2.0
// One function a model family, for models.cpp alone. All options are filled in: no zeros, no
// negatives.
#pragma once

#include "examples/models/models.h"

namespace nn::models {

dist::Result<Graph> make_vgg(int layers, const ModelOptions& options);
dist::Result<Graph> make_resnet(int layers, const ModelOptions& options);
dist::Result<Graph> make_inception_v4(const ModelOptions& options);
dist::Result<Graph> make_small_cnn(const ModelOptions& options);

}  // namespace nn::models
