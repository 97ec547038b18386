// SPDX-License-Identifier: Apache-2.0
// Sums, counts, conversions and fills.
#include "libdist/memory/kernels/launch.cuh"

namespace dist::device {
namespace {

// One sum a block, in the order of its threads.
template <typename T>
__global__ void __launch_bounds__(kThreads) sum_squares(const Squares<T> program, double* sums) {
  __shared__ double parts[kThreads];
  parts[threadIdx.x] = program(std::uint64_t{blockIdx.x} * blockDim.x + threadIdx.x,
                               std::uint64_t{gridDim.x} * blockDim.x);
  __syncthreads();
  if (threadIdx.x != 0) return;
  double total = 0;
  for (std::uint32_t t = 0; t < kThreads; ++t) total += parts[t];
  sums[blockIdx.x] = total;
}

__global__ void __launch_bounds__(kThreads)
    add_sums(const double* sums, std::uint32_t count, double* total) {
  // One thread adds, so that the order is fixed; all of them load.
  __shared__ double loaded[kThreads];
  double sum = 0;
  for (std::uint32_t first = 0; first < count; first += kThreads) {
    if (first + threadIdx.x < count) loaded[threadIdx.x] = sums[first + threadIdx.x];
    __syncthreads();
    for (std::uint32_t i = 0; threadIdx.x == 0 && i < kThreads && first + i < count; ++i) {
      sum += loaded[i];
    }
    __syncthreads();
  }
  if (threadIdx.x == 0) *total += sum;
}

template <typename T>
__global__ void __launch_bounds__(kThreads)
    count_values(const NotFinite<T> program, std::uint32_t* count) {
  const std::uint32_t found = program(std::uint64_t{blockIdx.x} * blockDim.x + threadIdx.x,
                                      std::uint64_t{gridDim.x} * blockDim.x);
  if (found != 0) atomicAdd(count, found);
}

}  // namespace

int add_squares(const Launch& launch, DType dtype, std::span<const std::byte> values,
                double* total) {
  return for_float(dtype, [&]<typename T>(T) -> int {
    if constexpr (sizeof(T) == 2) {
      return cudaErrorInvalidValue;
    } else {
      const std::uint64_t elems = values.size() / sizeof(T);
      const std::uint32_t blocks = sum_blocks(elems);
      const Squares<T> program{reinterpret_cast<const T*>(values.data()), elems};
      const int error = start(launch, blocks, &sum_squares<T>, program, launch.scratch);
      if (error != cudaSuccess) return error;
      return start(launch, 1u, &add_sums, launch.scratch, blocks, total);
    }
  });
}

int count_not_finite(const Launch& launch, DType dtype, std::span<const std::byte> values,
                     std::uint32_t* count) {
  return for_float(dtype, [&]<typename T>(T) -> int {
    const std::uint64_t elems = values.size() / sizeof(T);
    if (elems == 0) return cudaSuccess;
    const NotFinite<T> program{reinterpret_cast<const T*>(values.data()), elems};
    return start(launch, blocks_for(elems, launch.most_blocks), &count_values<T>, program, count);
  });
}

int convert(const Launch& launch, std::span<std::byte> out, DType out_dtype,
            std::span<const std::byte> in, DType in_dtype, const float* factor) {
  return for_float(out_dtype, [&]<typename Out>(Out) {
    return for_float(in_dtype, [&]<typename In>(In) -> int {
      if constexpr (sizeof(Out) == 8 || sizeof(In) == 8) {
        return cudaErrorInvalidValue;
      } else {
        using Program = Convert<Out, In>;
        const std::array<Placed, 2> places = {placed(out.data(), sizeof(Out)),
                                              placed(in.data(), sizeof(In))};
        const Program program{reinterpret_cast<Out*>(out.data()),
                              reinterpret_cast<const In*>(in.data()), factor,
                              split(places, out.size() / sizeof(Out), Program::kWidth)};
        return start(launch, pieces_of(program.split), program);
      }
    });
  });
}

int fill(const Launch& launch, std::span<std::byte> out, std::uint64_t elem_bytes,
         std::uint64_t pattern) {
  const auto with = [&]<typename Bits>(Bits) {
    const std::uint64_t elems = out.size() / sizeof(Bits);
    return start(
        launch, elems,
        Fill<Bits>{reinterpret_cast<Bits*>(out.data()), elems, static_cast<Bits>(pattern)});
  };
  if (elem_bytes == 1) return with(std::uint8_t());
  if (elem_bytes == 2) return with(std::uint16_t());
  return elem_bytes == 4 ? with(std::uint32_t()) : with(std::uint64_t());
}

int scale_by_norms(const Launch& launch, const NormScaling& scaling, const NormInputs& inputs,
                   UpdateScalars* scaled, double* gate) {
  return start(launch, 1u, &run<ScaleByNorms>, ScaleByNorms{scaling, inputs, scaled, gate});
}

}  // namespace dist::device
