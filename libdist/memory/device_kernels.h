// SPDX-License-Identifier: Apache-2.0
// Internal: the kernels of memory/kernels/*.cu, launched. A stream is a cudaStream_t, what comes
// back a cudaError_t; the GPU must be the calling thread's. Sizes were checked by the caller.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "libdist/memory/device.h"

namespace dist::device {

/// Where kernels are launched.
struct Launch {
  void* stream = nullptr;
  std::uint32_t most_blocks = 1;  ///< as many as the GPU runs at once, and a few
  double* scratch = nullptr;      ///< kMostSumBlocks numbers, of this stream alone
};

/// The functions of Device of the same names; reduce() for two and more sources, fill() for the
/// lowest bytes of a pattern.
int reduce(const Launch& launch, std::span<const std::span<std::byte>> outs,
           std::span<const std::span<const std::byte>> sources, DType dtype, Reduction reduction);
int divide(const Launch& launch, std::span<std::byte> data, std::uint64_t count,
           const double* count_there, DType dtype);
int update(const Launch& launch, const UpdateRule& rule, DType dtype,
           std::span<std::byte> parameters, std::span<const std::span<const std::byte>> gradients,
           std::array<std::byte*, kMostStates> states, const UpdateScalars* scalars,
           const double* gate);
int scale_by_norms(const Launch& launch, const NormScaling& scaling, const NormInputs& inputs,
                   UpdateScalars* scaled, double* gate);
int add_squares(const Launch& launch, DType dtype, std::span<const std::byte> values,
                double* total);
int count_not_finite(const Launch& launch, DType dtype, std::span<const std::byte> values,
                     std::uint32_t* count);
int convert(const Launch& launch, std::span<std::byte> out, DType out_dtype,
            std::span<const std::byte> in, DType in_dtype, const float* factor);
int fill(const Launch& launch, std::span<std::byte> out, std::uint64_t elem_bytes,
         std::uint64_t pattern);

}  // namespace dist::device
