// SPDX-License-Identifier: Apache-2.0
// One formula a rule; one loop for all of them, by element type and number of gradients.
// Hyper-parameters are converted to the element type once, so that a range gives the same bits
// however it is cut.
#include "libdist/update_loops.h"

#include <array>
#include <cmath>
#include <type_traits>

#include "libdist/check.h"

namespace dist {
namespace {

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

// A formula is what its rule does to one element: parameter and state, by the gradient g. The
// constructor computes in double what all elements have in common.
template <typename Rule, typename T>
struct Formula;

template <typename T>
struct Formula<Sgd, T> {
  static constexpr int kStates = 0;
  static constexpr bool kDecayInGradient = true;
  T rate;

  Formula(const Sgd&, const UpdateScalars& s) : rate(static_cast<T>(s.rate)) {}
  [[gnu::always_inline]] T operator()(T p, T g) const { return p - rate * g; }
};

template <typename T>
struct Formula<Momentum, T> {
  static constexpr int kStates = 1;
  static constexpr bool kDecayInGradient = true;
  T rate, momentum;

  Formula(const Momentum& rule, const UpdateScalars& s)
      : rate(static_cast<T>(s.rate)), momentum(static_cast<T>(rule.momentum)) {}
  [[gnu::always_inline]] T operator()(T p, T g, T& velocity) const {
    velocity = momentum * velocity + g;
    return p - rate * velocity;
  }
};

template <typename T>
struct Formula<Nesterov, T> {
  static constexpr int kStates = 1;
  static constexpr bool kDecayInGradient = true;
  T rate, momentum;

  Formula(const Nesterov& rule, const UpdateScalars& s)
      : rate(static_cast<T>(s.rate)), momentum(static_cast<T>(rule.momentum)) {}
  [[gnu::always_inline]] T operator()(T p, T g, T& velocity) const {
    velocity = momentum * velocity + g;
    return p - rate * (g + momentum * velocity);
  }
};

template <typename T>
struct Formula<Lars, T> {
  static constexpr int kStates = 1;
  static constexpr bool kDecayInGradient = true;
  T rate, momentum;

  Formula(const Lars& rule, const UpdateScalars& s)
      : rate(static_cast<T>(s.rate)), momentum(static_cast<T>(rule.momentum)) {}
  [[gnu::always_inline]] T operator()(T p, T g, T& velocity) const {
    velocity = momentum * velocity + rate * g;
    return p - velocity;
  }
};

template <typename T>
struct Formula<RmsProp, T> {
  static constexpr int kStates = 1;
  static constexpr bool kDecayInGradient = true;
  T rate, keep, take, epsilon;

  Formula(const RmsProp& rule, const UpdateScalars& s)
      : rate(static_cast<T>(s.rate)),
        keep(static_cast<T>(rule.alpha)),
        take(static_cast<T>(1 - rule.alpha)),
        epsilon(static_cast<T>(rule.epsilon)) {}
  [[gnu::always_inline]] T operator()(T p, T g, T& square) const {
    square = keep * square + take * g * g;
    return p - rate * g / (std::sqrt(square) + epsilon);
  }
};

template <typename T>
struct Formula<Adagrad, T> {
  static constexpr int kStates = 1;
  static constexpr bool kDecayInGradient = true;
  T rate, epsilon;

  Formula(const Adagrad& rule, const UpdateScalars& s)
      : rate(static_cast<T>(s.rate /
                            (1 + static_cast<double>(s.update - 1) * rule.learning_rate_decay))),
        epsilon(static_cast<T>(rule.epsilon)) {}
  [[gnu::always_inline]] T operator()(T p, T g, T& square) const {
    square = square + g * g;
    return p - rate * g / (std::sqrt(square) + epsilon);
  }
};

// What Adam, AdamW and Nadam share: the two means, and the root by which they divide.
template <typename T>
struct Moments {
  T keep1, take1, keep2, take2, root_scale, epsilon;

  template <typename Rule>
  Moments(const Rule& rule, const UpdateScalars& s)
      : keep1(static_cast<T>(rule.beta1)),
        take1(static_cast<T>(1 - rule.beta1)),
        keep2(static_cast<T>(rule.beta2)),
        take2(static_cast<T>(1 - rule.beta2)),
        root_scale(
            static_cast<T>(1 / std::sqrt(1 - std::pow(rule.beta2, static_cast<double>(s.update))))),
        epsilon(static_cast<T>(rule.epsilon)) {}
  [[gnu::always_inline]] T root(T g, T& first, T& second) const {
    first = keep1 * first + take1 * g;
    second = keep2 * second + take2 * g * g;
    return std::sqrt(second) * root_scale + epsilon;
  }
};

template <typename T>
struct Formula<Adam, T> {
  static constexpr int kStates = 2;
  static constexpr bool kDecayInGradient = true;
  Moments<T> moments;
  T rate;

  Formula(const Adam& rule, const UpdateScalars& s)
      : moments(rule, s),
        rate(static_cast<T>(s.rate / (1 - std::pow(rule.beta1, static_cast<double>(s.update))))) {}
  [[gnu::always_inline]] T operator()(T p, T g, T& first, T& second) const {
    const T root = moments.root(g, first, second);
    return p - rate * first / root;
  }
};

template <typename T>
struct Formula<AdamW, T> {
  static constexpr int kStates = 2;
  static constexpr bool kDecayInGradient = false;
  Formula<Adam, T> adam;
  T keep;

  Formula(const AdamW& rule, const UpdateScalars& s)
      : adam({rule.learning_rate, rule.beta1, rule.beta2, rule.epsilon, 0}, s),
        keep(static_cast<T>(1 - s.rate * s.decay)) {}
  [[gnu::always_inline]] T operator()(T p, T g, T& first, T& second) const {
    return adam(keep * p, g, first, second);
  }
};

template <typename T>
struct Formula<Nadam, T> {
  static constexpr int kStates = 2;
  static constexpr bool kDecayInGradient = true;
  Moments<T> moments;
  T rate_now, rate_mean;

  Formula(const Nadam& rule, const UpdateScalars& s) : moments(rule, s) {
    const double now = momentum_of(rule, s.update);
    const double next = momentum_of(rule, s.update + 1);
    rate_now = static_cast<T>(s.rate * (1 - now) / (1 - s.product * now));
    rate_mean = static_cast<T>(s.rate * next / (1 - s.product * now * next));
  }
  [[gnu::always_inline]] T operator()(T p, T g, T& first, T& second) const {
    const T root = moments.root(g, first, second);
    return p - (rate_now * g + rate_mean * first) / root;
  }
};

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
