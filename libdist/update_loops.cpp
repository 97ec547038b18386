// SPDX-License-Identifier: Apache-2.0
// One loop a rule, element type and number of gradients. Hyper-parameters are converted to the
// element type once, so that a range gives the same bits however it is cut.
#include "libdist/update_loops.h"

#include <array>
#include <type_traits>

#include "libdist/check.h"

namespace dist {
namespace {

template <typename T>
struct Views {
  T* parameters;
  std::array<const T*, kMostSummands> gradients;
  T* velocity;  // nullptr for a rule without state
  std::size_t elems;
  T scale;
};

template <std::size_t kSummands, typename T>
[[gnu::always_inline]] inline T sum(const Views<T>& v, std::size_t i) {
  T total = v.gradients[0][i];
  if constexpr (kSummands > 1) total += v.gradients[1][i];
  if constexpr (kSummands > 2) total += v.gradients[2][i];
  if constexpr (kSummands > 3) total += v.gradients[3][i];
  return total;
}

// Momentum or Nesterov, which differ in the step along the new velocity.
template <typename Rule, typename T, std::size_t kSummands>
struct Update {
  [[gnu::always_inline]] static void run(Rule rule, Views<T> v) {
    const T rate = static_cast<T>(rule.learning_rate);
    const T momentum = static_cast<T>(rule.momentum);
    const T decay = static_cast<T>(rule.weight_decay);
    DIST_INDEPENDENT_ITERATIONS
    for (std::size_t i = 0; i < v.elems; ++i) {
      const T p = v.parameters[i];
      const T g = v.scale * sum<kSummands>(v, i) + decay * p;
      const T velocity = momentum * v.velocity[i] + g;
      v.velocity[i] = velocity;
      if constexpr (std::is_same_v<Rule, Nesterov>) {
        v.parameters[i] = p - rate * (g + momentum * velocity);
      } else {
        v.parameters[i] = p - rate * velocity;
      }
    }
  }
};

template <typename T, std::size_t kSummands>
struct Update<Sgd, T, kSummands> {
  [[gnu::always_inline]] static void run(Sgd rule, Views<T> v) {
    const T rate = static_cast<T>(rule.learning_rate);
    const T decay = static_cast<T>(rule.weight_decay);
    DIST_INDEPENDENT_ITERATIONS
    for (std::size_t i = 0; i < v.elems; ++i) {
      const T p = v.parameters[i];
      const T g = v.scale * sum<kSummands>(v, i) + decay * p;
      v.parameters[i] = p - rate * g;
    }
  }
};

template <std::size_t kSummands, typename T>
void update_summands(InstructionSet set, const UpdateRule& rule, const Views<T>& views) {
  std::visit(
      [&]<typename Rule>(const Rule& chosen) {
        if constexpr (!std::is_same_v<Rule, MeanGradient>) {
          run_on<Update<Rule, T, kSummands>, Rule, Views<T>>(set, chosen, views);
        }
      },
      rule);
}

template <typename T>
void update_typed(InstructionSet set, const UpdateRule& rule, std::span<std::byte> parameters,
                  std::span<const std::span<const std::byte>> gradients, std::byte* velocity,
                  double scale) {
  Views<T> views{reinterpret_cast<T*>(parameters.data()),
                 {},
                 reinterpret_cast<T*>(velocity),
                 parameters.size() / sizeof(T),
                 static_cast<T>(scale)};
  for (std::size_t k = 0; k < gradients.size(); ++k) {
    views.gradients[k] = reinterpret_cast<const T*>(gradients[k].data());
  }
  switch (gradients.size()) {
    case 1:
      return update_summands<1>(set, rule, views);
    case 2:
      return update_summands<2>(set, rule, views);
    case 3:
      return update_summands<3>(set, rule, views);
    default:
      return update_summands<4>(set, rule, views);
  }
}

}  // namespace

void update_on(InstructionSet set, const UpdateRule& rule, DType dtype,
               std::span<std::byte> parameters,
               std::span<const std::span<const std::byte>> gradients, std::byte* velocity,
               double gradient_scale) {
  DIST_ASSERT(!gradients.empty() && gradients.size() <= kMostSummands,
              "update: too many gradients for one loop");
  if (dtype == DType::f64) {
    update_typed<double>(set, rule, parameters, gradients, velocity, gradient_scale);
  } else {
    update_typed<float>(set, rule, parameters, gradients, velocity, gradient_scale);
  }
}

}  // namespace dist
