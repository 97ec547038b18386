// SPDX-License-Identifier: Apache-2.0
// Internal: what one thread of a GPU does in each kernel, as plain functions of its number: kernels
// launch them, and tests run them on the host. A program is copied to the GPU as it is; what it
// points to is memory that the GPU can reach.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>

#include "libdist/memory/device.h"
#include "libdist/memory/device_grid.h"
#include "libdist/memory/reduce_operations.h"
#include "libdist/update_formulas.h"

namespace dist::device {

/// In which 16-bit floats are computed.
template <typename T>
using Computed =
    std::conditional_t<std::is_same_v<T, Half> || std::is_same_v<T, BFloat16>, float, T>;

template <typename T, std::size_t kWidth>
struct alignas(sizeof(T) * kWidth) Vector {
  T at[kWidth];
};

template <typename T>
inline constexpr std::size_t kWidthOf = kVectorBytes / sizeof(T);

template <typename T, std::size_t kWidth>
constexpr Vector<T, kWidth> load(const T* from) {
  return *reinterpret_cast<const Vector<T, kWidth>*>(from);
}
template <typename T, std::size_t kWidth>
constexpr void store(T* to, const Vector<T, kWidth>& values) {
  *reinterpret_cast<Vector<T, kWidth>*>(to) = values;
}

constexpr bool finite(double value) { return value - value == 0; }

/// outs[m][i] = op(...op(sources[0][i], sources[1][i])..., sources[n-1][i]), at least two sources.
template <typename Operation, typename T>
struct Reduce {
  static constexpr std::size_t kWidth = kWidthOf<T>;
  std::array<T*, kMostDeviceSources> outs;
  std::array<const T*, kMostDeviceSources> sources;
  std::uint32_t out_count;
  std::uint32_t source_count;
  bool mean;
  Split split;

  template <std::size_t kElems>
  constexpr void piece(std::uint64_t i) const {
    Computed<T> total[kElems];
    const auto first = load<T, kElems>(sources[0] + i);
    for (std::size_t k = 0; k < kElems; ++k) total[k] = static_cast<Computed<T>>(first.at[k]);
    for (std::uint32_t s = 1; s < source_count; ++s) {
      const auto next = load<T, kElems>(sources[s] + i);
      for (std::size_t k = 0; k < kElems; ++k) {
        total[k] = Operation::of(total[k], static_cast<Computed<T>>(next.at[k]));
      }
    }
    const kernels::Divisor<Computed<T>> divided(source_count);
    Vector<T, kElems> result;
    for (std::size_t k = 0; k < kElems; ++k) {
      result.at[k] = static_cast<T>(mean ? divided(total[k]) : total[k]);
    }
    for (std::uint32_t m = 0; m < out_count; ++m) store<T, kElems>(outs[m] + i, result);
  }
  constexpr void vector(std::uint64_t i) const { piece<kWidth>(i); }
  constexpr void single(std::uint64_t i) const { piece<1>(i); }
  constexpr void operator()(std::uint64_t thread, std::uint64_t threads) const {
    share(split, kWidth, thread, threads, *this);
  }
};

/// data[i] /= count; by *count where given.
template <typename T>
struct Divide {
  T* data;
  std::uint64_t elems;
  std::uint64_t count;
  const double* count_there;

  constexpr void operator()(std::uint64_t thread, std::uint64_t threads) const {
    const std::uint64_t by =
        count_there == nullptr ? count : static_cast<std::uint64_t>(*count_there);
    if (by < 2) return;
    const kernels::Divisor<Computed<T>> divided(by);
    for (std::uint64_t i = thread; i < elems; i += threads) {
      data[i] = static_cast<T>(divided(static_cast<Computed<T>>(data[i])));
    }
  }
};

/// One update from the sum of gradients, as the loop of update_loops.cpp.
template <typename Rule, typename T>
struct UpdateElements {
  static constexpr std::size_t kWidth = kWidthOf<T>;
  using Formula = formulas::Formula<Rule, T>;
  Rule rule;
  T* parameters;
  std::array<const T*, kMostDeviceSources> gradients;
  std::uint32_t gradient_count;
  std::array<T*, kMostStates> states;
  const UpdateScalars* scalars;
  const double* gate;
  Split split;

  /// With what all elements have in common.
  struct Loop {
    const UpdateElements& all;
    Formula formula;
    T scale;
    T decay;

    template <std::size_t kElems>
    constexpr void piece(std::uint64_t i) const {
      auto p = load<T, kElems>(all.parameters + i);
      auto g = load<T, kElems>(all.gradients[0] + i);
      for (std::uint32_t s = 1; s < all.gradient_count; ++s) {
        const auto next = load<T, kElems>(all.gradients[s] + i);
        for (std::size_t k = 0; k < kElems; ++k) g.at[k] += next.at[k];
      }
      Vector<T, kElems> state[kMostStates];
      for (int n = 0; n < Formula::kStates; ++n) {
        state[n] = load<T, kElems>(all.states[static_cast<std::size_t>(n)] + i);
      }
      for (std::size_t k = 0; k < kElems; ++k) {
        T mean = scale * g.at[k];
        if constexpr (Formula::kDecayInGradient) mean += decay * p.at[k];
        if constexpr (Formula::kStates == 0) {
          p.at[k] = formula(p.at[k], mean);
        } else if constexpr (Formula::kStates == 1) {
          p.at[k] = formula(p.at[k], mean, state[0].at[k]);
        } else {
          p.at[k] = formula(p.at[k], mean, state[0].at[k], state[1].at[k]);
        }
      }
      for (int n = 0; n < Formula::kStates; ++n) {
        store<T, kElems>(all.states[static_cast<std::size_t>(n)] + i, state[n]);
      }
      store<T, kElems>(all.parameters + i, p);
    }
    constexpr void vector(std::uint64_t i) const { piece<kWidth>(i); }
    constexpr void single(std::uint64_t i) const { piece<1>(i); }
  };

  constexpr void operator()(std::uint64_t thread, std::uint64_t threads) const {
    if (gate != nullptr && !finite(*gate)) return;
    const Loop loop{*this, Formula(rule, *scalars), static_cast<T>(scalars->scale),
                    static_cast<T>(scalars->decay)};
    share(split, kWidth, thread, threads, loop);
  }
};

/// What one thread adds to a sum of squares.
template <typename T>
struct Squares {
  const T* values;
  std::uint64_t elems;

  constexpr double operator()(std::uint64_t thread, std::uint64_t threads) const {
    double total = 0;
    for (std::uint64_t i = thread; i < elems; i += threads) {
      const double value = values[i];
      total += value * value;
    }
    return total;
  }
};

/// How many values that are not finite one thread finds.
template <typename T>
struct NotFinite {
  const T* values;
  std::uint64_t elems;

  constexpr std::uint32_t operator()(std::uint64_t thread, std::uint64_t threads) const {
    std::uint32_t count = 0;
    for (std::uint64_t i = thread; i < elems; i += threads) {
      const auto value = static_cast<Computed<T>>(values[i]);
      if (!(value - value == 0)) ++count;
    }
    return count;
  }
};

/// out[i] = in[i] * *factor.
template <typename Out, typename In>
struct Convert {
  static constexpr std::size_t kWidth = sizeof(Out) > sizeof(In) ? kWidthOf<Out> : kWidthOf<In>;
  Out* out;
  const In* in;
  const float* factor;
  Split split;

  struct Loop {
    const Convert& all;
    float times;

    template <std::size_t kElems>
    constexpr void piece(std::uint64_t i) const {
      const auto from = load<In, kElems>(all.in + i);
      Vector<Out, kElems> to;
      for (std::size_t k = 0; k < kElems; ++k) {
        to.at[k] = static_cast<Out>(static_cast<float>(from.at[k]) * times);
      }
      store<Out, kElems>(all.out + i, to);
    }
    constexpr void vector(std::uint64_t i) const { piece<kWidth>(i); }
    constexpr void single(std::uint64_t i) const { piece<1>(i); }
  };

  constexpr void operator()(std::uint64_t thread, std::uint64_t threads) const {
    share(split, kWidth, thread, threads, Loop{*this, factor == nullptr ? 1.0f : *factor});
  }
};

/// Bits of an element of that size.
template <typename Bits>
struct Fill {
  Bits* out;
  std::uint64_t elems;
  Bits pattern;

  constexpr void operator()(std::uint64_t thread, std::uint64_t threads) const {
    for (std::uint64_t i = thread; i < elems; i += threads) out[i] = pattern;
  }
};

/// The scalars of each part, see update_norms.h.
struct ScaleByNorms {
  NormScaling scaling;
  NormInputs inputs;
  UpdateScalars* scaled;
  double* gate;

  constexpr void operator()(std::uint64_t thread, std::uint64_t threads) const {
    const double total = norm_total(inputs);
    if (thread == 0) *gate = norm_gate(scaling, inputs, total);
    for (std::uint64_t p = thread; p < inputs.part_count; p += threads) {
      scaled[p] = norm_scalars(scaling, inputs, total, p);
    }
  }
};

}  // namespace dist::device
