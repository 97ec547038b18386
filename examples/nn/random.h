// SPDX-License-Identifier: Apache-2.0
// Counter-based random numbers: value(seed, stream, index) has no state, so any element can be made
// anywhere, in any order, and again in numpy (tests/golden/make_goldens.py has the same lines).
#pragma once

#include <cmath>
#include <cstdint>
#include <numbers>
#include <string_view>

namespace nn {

/// FNV-1a, 64 bit: the stream of a name.
constexpr std::uint64_t stream_of(std::string_view name) {
  std::uint64_t hash = 0xcbf29ce484222325;
  for (const char c : name) {
    hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3;
  }
  return hash;
}

/// The finalizer of splitmix64.
constexpr std::uint64_t mix64(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

/// 64 random bits: output number `index` of the splitmix64 generator whose state is a mix of seed
/// and stream.
constexpr std::uint64_t random_bits(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
  constexpr std::uint64_t kGamma = 0x9e3779b97f4a7c15;
  return mix64(mix64(mix64(seed + kGamma) ^ stream) + (index + 1) * kGamma);
}

/// Uniform in [0, 1): the top 53 bits.
constexpr double random_uniform(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
  return static_cast<double>(random_bits(seed, stream, index) >> 11) * 0x1p-53;
}

/// Standard normal number `index` by Box-Muller (cosine branch) from uniforms 2 index, 2 index + 1.
inline double random_normal(std::uint64_t seed, std::uint64_t stream, std::uint64_t index) {
  const double u = random_uniform(seed, stream, 2 * index);
  const double v = random_uniform(seed, stream, 2 * index + 1);
  return std::sqrt(-2.0 * std::log1p(-u)) * std::cos(2.0 * std::numbers::pi * v);
}

}  // namespace nn
