// SPDX-License-Identifier: Apache-2.0
// For kernels: how a block covers a [pixels, channels] tensor, and sums over its pixels. Threads
// that follow each other take octets of channels that follow each other, then the next pixel, so
// that a block reads whole rows; each keeps its octet and walks down the pixels.
#pragma once

#include "examples/nn/cudnn/launch.h"

namespace nn::cudnn {

struct Columns {
  std::int64_t pixels;
  int octets;  ///< of a pixel
  int across;  ///< threads of a block side by side
  int down;    ///< and below each other

  /// Rows of blocks: enough to fill a large GPU, few enough that what each sums up is quickly
  /// added.
  static constexpr int kMostBlocks = 528;

  explicit Columns(const Extent& extent)
      : pixels(extent.pixels), octets(static_cast<int>(extent.channels / kOctet)) {
    const int blocks = (octets + 63) / 64;
    across = (octets + blocks - 1) / blocks;
    down = kThreads / across;
  }
  int blocks_across() const { return (octets + across - 1) / across; }
  /// With at least `turns` pixels for each thread, where there are as many.
  dim3 grid(int turns, int most_blocks = kMostBlocks) const {
    const std::int64_t wanted = (pixels + std::int64_t{down} * turns - 1) / (down * turns);
    const std::int64_t most = std::max(1, most_blocks / blocks_across());
    return dim3(static_cast<unsigned>(blocks_across()),
                static_cast<unsigned>(std::clamp(wanted, std::int64_t{1}, most)));
  }

  /// Of this thread; false where it has nothing to do.
  __device__ bool begin(int* octet, std::int64_t* pixel) const {
    const int lane = static_cast<int>(threadIdx.x);
    *octet = static_cast<int>(blockIdx.x) * across + lane % across;
    *pixel = std::int64_t{blockIdx.y} * down + lane / across;
    return lane < across * down && *octet < octets;
  }
  __device__ std::int64_t stride() const { return std::int64_t{gridDim.y} * down; }
};

/// Adds up two sums a channel over the block and writes them to scratch[blockIdx.y][2][channels].
/// All threads call it, those without work with zeros.
__device__ inline void sum_block(const Columns& columns, const float (&first)[kOctet],
                                 const float (&second)[kOctet], float* scratch) {
  __shared__ float shared[2 * kOctet][kThreads];
  const int lane = static_cast<int>(threadIdx.x);
#pragma unroll
  for (int i = 0; i < kOctet; ++i) {
    shared[i][lane] = first[i];
    shared[kOctet + i][lane] = second[i];
  }
  __syncthreads();
  const std::int64_t channels = std::int64_t{columns.octets} * kOctet;
  for (int k = lane; k < columns.across * 2 * kOctet; k += kThreads) {
    const int column = k / (2 * kOctet);
    const int value = k % (2 * kOctet);
    const int octet = static_cast<int>(blockIdx.x) * columns.across + column;
    if (octet >= columns.octets) continue;
    float sum = 0;
    for (int row = 0; row < columns.down; ++row)
      sum += shared[value][row * columns.across + column];
    const std::int64_t channel = octet * kOctet + value % kOctet;
    scratch[(std::int64_t{blockIdx.y} * 2 + value / kOctet) * channels + channel] = sum;
  }
}

/// For the kernel after it, in blocks of kSumThreads for kSumChannels channels: the two totals of
/// one channel, in the threads of the first row; others get false.
inline constexpr int kSumChannels = 32;
inline constexpr int kSumRows = 16;
inline constexpr int kSumThreads = kSumChannels * kSumRows;
inline dim3 sum_grid(std::int64_t channels) {
  return dim3(static_cast<unsigned>((channels + kSumChannels - 1) / kSumChannels));
}
__device__ inline bool sum_blocks(const float* scratch, int rows, int channels, int* channel,
                                  double* first, double* second) {
  __shared__ double shared[2][kSumRows][kSumChannels];
  const int column = static_cast<int>(threadIdx.x) % kSumChannels;
  const int row = static_cast<int>(threadIdx.x) / kSumChannels;
  *channel = static_cast<int>(blockIdx.x) * kSumChannels + column;
  double sums[2] = {0, 0};
  if (*channel < channels) {
    for (int r = row; r < rows; r += kSumRows) {
      const float* values = scratch + std::int64_t{r} * 2 * channels + *channel;
      sums[0] += static_cast<double>(values[0]);
      sums[1] += static_cast<double>(values[channels]);
    }
  }
  shared[0][row][column] = sums[0];
  shared[1][row][column] = sums[1];
  __syncthreads();
  if (row != 0 || *channel >= channels) return false;
  *first = 0;
  *second = 0;
  for (int r = 0; r < kSumRows; ++r) {
    *first += shared[0][r][column];
    *second += shared[1][r][column];
  }
  return true;
}

}  // namespace nn::cudnn
