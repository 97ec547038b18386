// SPDX-License-Identifier: Apache-2.0
// One formula a rule, for the host's loops and the GPU's alike: arithmetic that IEEE 754 rounds, so
// that both give the same bits where their compilers contract nothing. Hyper-parameters are
// converted to the element type once, so that a range gives the same bits however it is cut.
#pragma once

#include <cmath>

#include "libdist/update_rule.h"
#include "libdist/update_scalars.h"

namespace dist::formulas {

// A formula is what its rule does to one element: parameter and state, by the gradient g. The
// constructor computes in double what all elements have in common.
template <typename Rule, typename T>
struct Formula;

template <typename T>
struct Formula<Sgd, T> {
  static constexpr int kStates = 0;
  static constexpr bool kDecayInGradient = true;
  T rate;

  constexpr Formula(const Sgd&, const UpdateScalars& s) : rate(static_cast<T>(s.rate)) {}
  [[gnu::always_inline]] constexpr T operator()(T p, T g) const { return p - rate * g; }
};

template <typename T>
struct Formula<Momentum, T> {
  static constexpr int kStates = 1;
  static constexpr bool kDecayInGradient = true;
  T rate, momentum;

  constexpr Formula(const Momentum& rule, const UpdateScalars& s)
      : rate(static_cast<T>(s.rate)), momentum(static_cast<T>(rule.momentum)) {}
  [[gnu::always_inline]] constexpr T operator()(T p, T g, T& velocity) const {
    velocity = momentum * velocity + g;
    return p - rate * velocity;
  }
};

template <typename T>
struct Formula<Nesterov, T> {
  static constexpr int kStates = 1;
  static constexpr bool kDecayInGradient = true;
  T rate, momentum;

  constexpr Formula(const Nesterov& rule, const UpdateScalars& s)
      : rate(static_cast<T>(s.rate)), momentum(static_cast<T>(rule.momentum)) {}
  [[gnu::always_inline]] constexpr T operator()(T p, T g, T& velocity) const {
    velocity = momentum * velocity + g;
    return p - rate * (g + momentum * velocity);
  }
};

template <typename T>
struct Formula<Lars, T> {
  static constexpr int kStates = 1;
  static constexpr bool kDecayInGradient = true;
  T rate, momentum;

  constexpr Formula(const Lars& rule, const UpdateScalars& s)
      : rate(static_cast<T>(s.rate)), momentum(static_cast<T>(rule.momentum)) {}
  [[gnu::always_inline]] constexpr T operator()(T p, T g, T& velocity) const {
    velocity = momentum * velocity + rate * g;
    return p - velocity;
  }
};

template <typename T>
struct Formula<RmsProp, T> {
  static constexpr int kStates = 1;
  static constexpr bool kDecayInGradient = true;
  T rate, keep, take, epsilon;

  constexpr Formula(const RmsProp& rule, const UpdateScalars& s)
      : rate(static_cast<T>(s.rate)),
        keep(static_cast<T>(rule.alpha)),
        take(static_cast<T>(1 - rule.alpha)),
        epsilon(static_cast<T>(rule.epsilon)) {}
  [[gnu::always_inline]] constexpr T operator()(T p, T g, T& square) const {
    square = keep * square + take * g * g;
    return p - rate * g / (std::sqrt(square) + epsilon);
  }
};

template <typename T>
struct Formula<Adagrad, T> {
  static constexpr int kStates = 1;
  static constexpr bool kDecayInGradient = true;
  T rate, epsilon;

  constexpr Formula(const Adagrad& rule, const UpdateScalars& s)
      : rate(static_cast<T>(s.rate /
                            (1 + static_cast<double>(s.update - 1) * rule.learning_rate_decay))),
        epsilon(static_cast<T>(rule.epsilon)) {}
  [[gnu::always_inline]] constexpr T operator()(T p, T g, T& square) const {
    square = square + g * g;
    return p - rate * g / (std::sqrt(square) + epsilon);
  }
};

// What Adam, AdamW and Nadam share: the two means, and the root by which they divide.
template <typename T>
struct Moments {
  T keep1, take1, keep2, take2, root_scale, epsilon;

  template <typename Rule>
  constexpr Moments(const Rule& rule, const UpdateScalars& s)
      : keep1(static_cast<T>(rule.beta1)),
        take1(static_cast<T>(1 - rule.beta1)),
        keep2(static_cast<T>(rule.beta2)),
        take2(static_cast<T>(1 - rule.beta2)),
        root_scale(static_cast<T>(1 / std::sqrt(1 - s.power2))),
        epsilon(static_cast<T>(rule.epsilon)) {}
  [[gnu::always_inline]] constexpr T root(T g, T& first, T& second) const {
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

  constexpr Formula(const Adam& rule, const UpdateScalars& s)
      : moments(rule, s), rate(static_cast<T>(s.rate / (1 - s.power1))) {}
  [[gnu::always_inline]] constexpr T operator()(T p, T g, T& first, T& second) const {
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

  constexpr Formula(const AdamW& rule, const UpdateScalars& s)
      : adam({rule.learning_rate, rule.beta1, rule.beta2, rule.epsilon, 0}, s),
        keep(static_cast<T>(1 - s.rate * s.decay)) {}
  [[gnu::always_inline]] constexpr T operator()(T p, T g, T& first, T& second) const {
    return adam(keep * p, g, first, second);
  }
};

template <typename T>
struct Formula<Nadam, T> {
  static constexpr int kStates = 2;
  static constexpr bool kDecayInGradient = true;
  Moments<T> moments;
  T rate_now, rate_mean;

  constexpr Formula(const Nadam& rule, const UpdateScalars& s) : moments(rule, s) {
    const double now = s.momentum_now;
    const double next = s.momentum_next;
    rate_now = static_cast<T>(s.rate * (1 - now) / (1 - s.product * now));
    rate_mean = static_cast<T>(s.rate * next / (1 - s.product * now * next));
  }
  [[gnu::always_inline]] constexpr T operator()(T p, T g, T& first, T& second) const {
    const T root = moments.root(g, first, second);
    return p - (rate_now * g + rate_mean * first) / root;
  }
};

}  // namespace dist::formulas
