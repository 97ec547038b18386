// SPDX-License-Identifier: Apache-2.0
// Names and numbers of the rules; one list of fields a rule, and one table of names.
#include "libdist/update_rule.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cmath>

namespace dist {
namespace {

struct Field {
  std::string_view name;
  double value;
};
using Fields = std::vector<Field>;

Fields fields(const Sgd& r) {
  return {{"learning_rate", r.learning_rate}, {"weight_decay", r.weight_decay}};
}

Fields fields(const Momentum& r) {
  return {{"learning_rate", r.learning_rate},
          {"momentum", r.momentum},
          {"weight_decay", r.weight_decay}};
}

Fields fields(const Nesterov& r) {
  return fields(Momentum{r.learning_rate, r.momentum, r.weight_decay});
}

Fields fields(const RmsProp& r) {
  return {{"learning_rate", r.learning_rate},
          {"alpha", r.alpha},
          {"epsilon", r.epsilon},
          {"weight_decay", r.weight_decay}};
}

Fields fields(const Adagrad& r) {
  return {{"learning_rate", r.learning_rate},
          {"learning_rate_decay", r.learning_rate_decay},
          {"weight_decay", r.weight_decay},
          {"epsilon", r.epsilon}};
}

Fields fields(const Adam& r) {
  return {{"learning_rate", r.learning_rate},
          {"beta1", r.beta1},
          {"beta2", r.beta2},
          {"epsilon", r.epsilon},
          {"weight_decay", r.weight_decay}};
}

Fields fields(const AdamW& r) {
  return fields(Adam{r.learning_rate, r.beta1, r.beta2, r.epsilon, r.weight_decay});
}

Fields fields(const Nadam& r) {
  auto all = fields(Adam{r.learning_rate, r.beta1, r.beta2, r.epsilon, r.weight_decay});
  all.push_back({"momentum_decay", r.momentum_decay});
  return all;
}

Fields fields(const Lars& r) {
  auto all = fields(Momentum{r.learning_rate, r.momentum, r.weight_decay});
  all.push_back({"trust", r.trust});
  return all;
}

Fields fields(const MeanGradient&) { return {}; }

Fields fields_of(const UpdateRule& rule) {
  return std::visit([](const auto& chosen) { return fields(chosen); }, rule);
}

struct Entry {
  std::string_view name;
  UpdateRule defaults;
  std::size_t states;
};

// In the order of the variant.
constexpr std::array<Entry, std::variant_size_v<UpdateRule>> kRules = {
    {{"sgd", Sgd{}, 0},
     {"momentum", Momentum{}, 1},
     {"nesterov", Nesterov{}, 1},
     {"rmsprop", RmsProp{}, 1},
     {"adagrad", Adagrad{}, 1},
     {"adam", Adam{}, 2},
     {"adamw", AdamW{}, 2},
     {"nadam", Nadam{}, 2},
     {"lars", Lars{}, 1},
     {"mean-gradient", MeanGradient{}, 0}}};

// What stays of a mean from step to step: at 1 nothing new would come in.
bool is_mean(std::string_view name) {
  return name == "alpha" || name == "beta1" || name == "beta2";
}

bool is_valid(const Field& field) {
  if (!std::isfinite(field.value)) return false;
  if (is_mean(field.name)) return field.value >= 0 && field.value < 1;
  return field.value >= 0 || field.name == "learning_rate";
}

}  // namespace

std::vector<std::string_view> update_rule_names() {
  std::vector<std::string_view> names;
  for (const Entry& entry : kRules) {
    if (updates_parameters(entry.defaults)) names.push_back(entry.name);
  }
  return names;
}

Result<UpdateRule> make_update_rule(std::string_view name, std::optional<double> learning_rate) {
  const auto found = std::find_if(kRules.begin(), kRules.end(),
                                  [&](const Entry& entry) { return entry.name == name; });
  if (found == kRules.end() || !updates_parameters(found->defaults)) {
    return Status::invalid_argument(fmt::format("optimizer '{}' is unknown; valid: {}", name,
                                                fmt::join(update_rule_names(), ", ")));
  }
  UpdateRule rule = found->defaults;
  if (learning_rate) set_learning_rate(rule, *learning_rate);
  return rule;
}

std::string_view name_of(const UpdateRule& rule) { return kRules[rule.index()].name; }

std::size_t states_of(const UpdateRule& rule) { return kRules[rule.index()].states; }

double learning_rate_of(const UpdateRule& rule) {
  return std::visit(
      [](const auto& chosen) -> double {
        if constexpr (requires { chosen.learning_rate; }) return chosen.learning_rate;
        return 0;
      },
      rule);
}

void set_learning_rate(UpdateRule& rule, double learning_rate) {
  std::visit(
      [&](auto& chosen) {
        if constexpr (requires { chosen.learning_rate; }) chosen.learning_rate = learning_rate;
      },
      rule);
}

double weight_decay_of(const UpdateRule& rule) {
  return std::visit(
      [](const auto& chosen) -> double {
        if constexpr (requires { chosen.weight_decay; }) return chosen.weight_decay;
        return 0;
      },
      rule);
}

void set_weight_decay(UpdateRule& rule, double weight_decay) {
  std::visit(
      [&](auto& chosen) {
        if constexpr (requires { chosen.weight_decay; }) chosen.weight_decay = weight_decay;
      },
      rule);
}

Status validate(const UpdateRule& rule) {
  for (const Field& field : fields_of(rule)) {
    if (is_valid(field)) continue;
    return Status::invalid_argument(
        fmt::format("optimizer {}: {} is {}; numbers are finite and, but for learning_rate, not "
                    "negative; alpha, beta1 and beta2 are below 1",
                    name_of(rule), field.name, field.value));
  }
  return {};
}

std::string describe(const UpdateRule& rule) {
  std::vector<std::string> parts;
  for (const Field& field : fields_of(rule)) {
    parts.push_back(fmt::format("{} {}", field.name, field.value));
  }
  return fmt::format("{} ({})", name_of(rule), fmt::join(parts, ", "));
}

double momentum_of(const Nadam& rule, std::uint64_t update) {
  return rule.beta1 * (1 - 0.5 * std::pow(0.96, static_cast<double>(update) * rule.momentum_decay));
}

}  // namespace dist
