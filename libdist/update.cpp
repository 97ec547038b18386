// SPDX-License-Identifier: Apache-2.0
// One loop a rule and element type. Hyper-parameters are converted to the element type once, so
// that a range gives the same bits however it is cut.
#include "libdist/update.h"

#include <fmt/format.h>

#include "libdist/check.h"

namespace dist {
namespace {

template <typename T>
struct Views {
  T* parameters;
  const T* gradients;
  T* velocity;  // nullptr for a rule without state
  std::size_t elems;
  T scale;
};

template <typename T>
void run(const Sgd& rule, const Views<T>& v) {
  T* __restrict p = v.parameters;
  const T* __restrict gradient = v.gradients;
  const T scale = v.scale;
  const T rate = static_cast<T>(rule.learning_rate);
  const T decay = static_cast<T>(rule.weight_decay);
  for (std::size_t i = 0; i < v.elems; ++i) {
    const T g = scale * gradient[i] + decay * p[i];
    p[i] -= rate * g;
  }
}

template <typename T>
void run(const Momentum& rule, const Views<T>& v) {
  T* __restrict p = v.parameters;
  const T* __restrict gradient = v.gradients;
  T* __restrict velocity = v.velocity;
  const T scale = v.scale;
  const T rate = static_cast<T>(rule.learning_rate);
  const T momentum = static_cast<T>(rule.momentum);
  const T decay = static_cast<T>(rule.weight_decay);
  for (std::size_t i = 0; i < v.elems; ++i) {
    const T g = scale * gradient[i] + decay * p[i];
    velocity[i] = momentum * velocity[i] + g;
    p[i] -= rate * velocity[i];
  }
}

template <typename T>
void run(const Nesterov& rule, const Views<T>& v) {
  T* __restrict p = v.parameters;
  const T* __restrict gradient = v.gradients;
  T* __restrict velocity = v.velocity;
  const T scale = v.scale;
  const T rate = static_cast<T>(rule.learning_rate);
  const T momentum = static_cast<T>(rule.momentum);
  const T decay = static_cast<T>(rule.weight_decay);
  for (std::size_t i = 0; i < v.elems; ++i) {
    const T g = scale * gradient[i] + decay * p[i];
    velocity[i] = momentum * velocity[i] + g;
    p[i] -= rate * (g + momentum * velocity[i]);
  }
}

template <typename T>
void apply_typed(const UpdateRule& rule, std::span<std::byte> parameters,
                 std::span<const std::byte> gradients, std::byte* state, std::uint64_t first,
                 double scale) {
  const Views<T> views{reinterpret_cast<T*>(parameters.data()),
                       reinterpret_cast<const T*>(gradients.data()),
                       state != nullptr ? reinterpret_cast<T*>(state) + first : nullptr,
                       parameters.size() / sizeof(T), static_cast<T>(scale)};
  std::visit([&](const auto& chosen) { run<T>(chosen, views); }, rule);
}

bool has_state(const UpdateRule& rule) { return !std::holds_alternative<Sgd>(rule); }

}  // namespace

Result<UpdateRule> make_update_rule(std::string_view name, double learning_rate) {
  if (name == "sgd") return UpdateRule(Sgd{.learning_rate = learning_rate});
  if (name == "momentum") return UpdateRule(Momentum{.learning_rate = learning_rate});
  if (name == "nesterov") return UpdateRule(Nesterov{.learning_rate = learning_rate});
  return Status::invalid_argument(
      fmt::format("optimizer '{}' is unknown; valid: sgd, momentum, nesterov", name));
}

std::string_view name_of(const UpdateRule& rule) {
  if (std::holds_alternative<Sgd>(rule)) return "sgd";
  return std::holds_alternative<Momentum>(rule) ? "momentum" : "nesterov";
}

Updater::Updater(UpdateRule rule, Elems elems, DType dtype, Mapping state)
    : rule_(rule), elems_(elems), dtype_(dtype), state_(std::move(state)) {}

Updater::Updater(UpdateRule rule, Elems elems, DType dtype) : Updater(rule, elems, dtype, {}) {
  auto made = create(rule, elems, dtype, {});
  DIST_ASSERT(made.ok(), "update: no memory for the optimizer's state");
  *this = *std::move(made);
}

Result<Updater> Updater::create(UpdateRule rule, Elems elems, DType dtype, Bytes alias_window) {
  Mapping state;
  if (has_state(rule)) {
    auto mapped = Mapping::map(bytes_of(elems, dtype), alias_window);
    DIST_TRY_BECAUSE(mapped, "optimizer state");
    state = *std::move(mapped);
  }
  return Updater(rule, elems, dtype, std::move(state));
}

void Updater::apply(std::span<std::byte> parameters, std::span<const std::byte> gradients,
                    std::uint64_t first, double gradient_scale) {
  const auto elems = parameters.size() / size_of(dtype_);
  DIST_ASSERT(parameters.size() == gradients.size(), "update: the spans differ in size");
  DIST_ASSERT(parameters.size() % size_of(dtype_) == 0, "update: not whole elements");
  DIST_ASSERT(first <= elems_.value && elems <= elems_.value - first,
              "update: the range lies outside the updater's elements");
  std::byte* state = state_.bytes().empty() ? nullptr : state_.bytes().data();
  if (dtype_ == DType::f64) {
    apply_typed<double>(rule_, parameters, gradients, state, first, gradient_scale);
  } else {
    apply_typed<float>(rule_, parameters, gradients, state, first, gradient_scale);
  }
}

void Updater::set_learning_rate(double learning_rate) {
  std::visit([&](auto& rule) { rule.learning_rate = learning_rate; }, rule_);
}

}  // namespace dist
