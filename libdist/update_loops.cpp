// SPDX-License-Identifier: Apache-2.0
// One loop for all formulas of update_formulas.h, by element type and number of gradients.
#include "libdist/update_loops.h"

#include <array>
#include <cmath>
#include <type_traits>

#include "libdist/check.h"
#include "libdist/update_formulas.h"

namespace dist {
namespace {

using formulas::Formula;

template <typename T>
struct Views {
  T* parameters;
  std::array<const T*, kMostSummands> gradients;
  std::array<T*, kMostStates> states;
  std::size_t elems;
  T scale;
  T decay;
};

template <std::size_t kSummands, typename T>
[[gnu::always_inline]] inline T sum(const Views<T>& v, std::size_t i) {
  T total = v.gradients[0][i];
  if constexpr (kSummands > 1) total += v.gradients[1][i];
  if constexpr (kSummands > 2) total += v.gradients[2][i];
  if constexpr (kSummands > 3) total += v.gradients[3][i];
  return total;
}

template <typename Rule, typename T, std::size_t kSummands>
struct UpdateLoop {
  [[gnu::always_inline]] static void run(Formula<Rule, T> formula, Views<T> v) {
    DIST_INDEPENDENT_ITERATIONS
    for (std::size_t i = 0; i < v.elems; ++i) {
      const T p = v.parameters[i];
      T g = v.scale * sum<kSummands>(v, i);
      if constexpr (Formula<Rule, T>::kDecayInGradient) g += v.decay * p;
      if constexpr (Formula<Rule, T>::kStates == 0) {
        v.parameters[i] = formula(p, g);
      } else if constexpr (Formula<Rule, T>::kStates == 1) {
        T state = v.states[0][i];
        const T next = formula(p, g, state);
        v.states[0][i] = state;
        v.parameters[i] = next;
      } else {
        T first = v.states[0][i];
        T second = v.states[1][i];
        const T next = formula(p, g, first, second);
        v.states[0][i] = first;
        v.states[1][i] = second;
        v.parameters[i] = next;
      }
    }
  }
};

template <std::size_t kSummands, typename T>
void update_summands(InstructionSet set, const UpdateRule& rule, const Views<T>& views,
                     const UpdateScalars& scalars) {
  std::visit(
      [&]<typename Rule>(const Rule& chosen) {
        if constexpr (!std::is_same_v<Rule, MeanGradient>) {
          run_on<UpdateLoop<Rule, T, kSummands>, Formula<Rule, T>, Views<T>>(
              set, Formula<Rule, T>(chosen, scalars), views);
        }
      },
      rule);
}

template <typename T>
void update_typed(InstructionSet set, const UpdateRule& rule, std::span<std::byte> parameters,
                  std::span<const std::span<const std::byte>> gradients,
                  std::array<std::byte*, kMostStates> states, const UpdateScalars& scalars) {
  Views<T> views{reinterpret_cast<T*>(parameters.data()),
                 {},
                 {reinterpret_cast<T*>(states[0]), reinterpret_cast<T*>(states[1])},
                 parameters.size() / sizeof(T),
                 static_cast<T>(scalars.scale),
                 static_cast<T>(scalars.decay)};
  for (std::size_t k = 0; k < gradients.size(); ++k) {
    views.gradients[k] = reinterpret_cast<const T*>(gradients[k].data());
  }
  switch (gradients.size()) {
    case 1:
      return update_summands<1>(set, rule, views, scalars);
    case 2:
      return update_summands<2>(set, rule, views, scalars);
    case 3:
      return update_summands<3>(set, rule, views, scalars);
    default:
      return update_summands<4>(set, rule, views, scalars);
  }
}

template <typename T>
struct SquaresLoop {
  [[gnu::always_inline]] static void run(const T* values, std::size_t elems, double* result) {
    constexpr std::size_t kLanes = 16;
    std::array<double, kLanes> lanes{};
    std::size_t i = 0;
    for (; i + kLanes <= elems; i += kLanes) {
      for (std::size_t lane = 0; lane < kLanes; ++lane) {
        const double value = values[i + lane];
        lanes[lane] += value * value;
      }
    }
    for (std::size_t lane = 0; i + lane < elems; ++lane) {
      const double value = values[i + lane];
      lanes[lane] += value * value;
    }
    double total = 0;
    for (const double lane : lanes) total += lane;
    *result = total;
  }
};

template <typename T>
double squares_typed(InstructionSet set, std::span<const std::byte> values) {
  double total = 0;
  run_on<SquaresLoop<T>, const T*, std::size_t, double*>(
      set, reinterpret_cast<const T*>(values.data()), values.size() / sizeof(T), &total);
  return total;
}

}  // namespace

void update_on(InstructionSet set, const UpdateRule& rule, DType dtype,
               std::span<std::byte> parameters,
               std::span<const std::span<const std::byte>> gradients,
               std::array<std::byte*, kMostStates> states, const UpdateScalars& scalars) {
  DIST_ASSERT(!gradients.empty() && gradients.size() <= kMostSummands,
              "update: too many gradients for one loop");
  if (dtype == DType::f64) {
    update_typed<double>(set, rule, parameters, gradients, states, scalars);
  } else {
    update_typed<float>(set, rule, parameters, gradients, states, scalars);
  }
}

double sum_of_squares_on(InstructionSet set, DType dtype, std::span<const std::byte> values) {
  return dtype == DType::f64 ? squares_typed<double>(set, values)
                             : squares_typed<float>(set, values);
}

}  // namespace dist
