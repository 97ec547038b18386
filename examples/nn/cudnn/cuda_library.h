// SPDX-License-Identifier: Apache-2.0
// The Library of a machine with CUDA, and how its parts are made.
#pragma once

#include <cublasLt.h>
#include <cudnn.h>

#include "examples/nn/cudnn/library.h"
#include "examples/nn/cudnn/tuner.h"

namespace nn::cudnn {

std::shared_ptr<Convolution> make_cudnn_convolution(cudnnHandle_t handle, Tuner& tuner,
                                                    const Arithmetic& arithmetic,
                                                    const ConvProblem& problem);
std::shared_ptr<DenseProduct> make_cublas_dense(cublasLtHandle_t handle, Tuner& tuner,
                                                const Arithmetic& arithmetic,
                                                const DenseProblem& problem);
/// See Library::record().
std::unique_ptr<Recording> record_graph(dist::Stream stream, const std::function<void()>& work,
                                        std::string* why);

/// Failure: cuDNN cannot start on this device.
std::unique_ptr<Library> open_cuda_library(dist::Device& device, dist::Stream stream,
                                           const Arithmetic& arithmetic);

}  // namespace nn::cudnn
