// SPDX-License-Identifier: Apache-2.0
#include "ps/compensation.h"

#include "libdist/check.h"

namespace dist::ps {
namespace {

template <typename T>
void compensate_as(std::span<std::byte> out, std::span<const std::byte> gradient,
                   std::span<const std::byte> now, std::span<const std::byte> then, double lambda) {
  T* const to = reinterpret_cast<T*>(out.data());
  const T* const g = reinterpret_cast<const T*>(gradient.data());
  const T* const w = reinterpret_cast<const T*>(now.data());
  const T* const old = reinterpret_cast<const T*>(then.data());
  const auto factor = static_cast<T>(lambda);
  const std::size_t elems = out.size() / sizeof(T);
  for (std::size_t i = 0; i < elems; ++i) to[i] = g[i] + factor * g[i] * g[i] * (w[i] - old[i]);
}

}  // namespace

void compensate(std::span<std::byte> out, std::span<const std::byte> gradient,
                std::span<const std::byte> now, std::span<const std::byte> then, double lambda,
                DType dtype) {
  DIST_ASSERT(gradient.size() == out.size() && now.size() == out.size() &&
                  then.size() == out.size() && out.size() % size_of(dtype) == 0,
              "compensate: the spans differ in size");
  DIST_ASSERT(can_train(dtype), "compensate: not a type of parameters");
  if (dtype == DType::f32) return compensate_as<float>(out, gradient, now, then, lambda);
  compensate_as<double>(out, gradient, now, then, lambda);
}

}  // namespace dist::ps
