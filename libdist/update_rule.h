// SPDX-License-Identifier: Apache-2.0
// The update rules: small structs of hyper-parameters with PyTorch's names, meanings and defaults.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "libdist/status.h"

namespace dist {

// In the formulas p = parameter, g = mean gradient + weight_decay * p unless said otherwise, t =
// the number of this update, 1 for the first; what else stands there is state and starts at 0.

/// p -= learning_rate * g.
struct Sgd {
  double learning_rate = 0.01;  ///< step size; a schedule multiplies it
  double weight_decay = 0;      ///< L2 penalty, 0: off
};

/// v = momentum * v + g; p -= learning_rate * v. The form of Sutskever et al. 2013 as PyTorch and
/// document-002's frameworks apply it (learning rate outside the velocity).
struct Momentum {
  double learning_rate = 0.01;  ///< step size; a schedule multiplies it
  double momentum = 0.9;        ///< part of the velocity that stays
  double weight_decay = 0;      ///< L2 penalty, 0: off
};

/// v = momentum * v + g; p -= learning_rate * (g + momentum * v).
struct Nesterov {
  double learning_rate = 0.01;  ///< step size; a schedule multiplies it
  double momentum = 0.9;        ///< part of the velocity that stays
  double weight_decay = 0;      ///< L2 penalty, 0: off
};

/// s = alpha * s + (1 - alpha) * g^2; p -= learning_rate * g / (sqrt(s) + epsilon). Tieleman and
/// Hinton 2012, lecture 6e.
struct RmsProp {
  double learning_rate = 0.01;  ///< step size; a schedule multiplies it
  double alpha = 0.99;          ///< part of the mean square that stays
  double epsilon = 1e-8;        ///< keeps the divisor from 0
  double weight_decay = 0;      ///< L2 penalty, 0: off
};

/// s += g^2; p -= learning_rate / (1 + (t - 1) * learning_rate_decay) * g / (sqrt(s) + epsilon).
/// Duchi et al. 2011, with diagonal matrices.
struct Adagrad {
  double learning_rate = 0.01;     ///< step size; a schedule multiplies it
  double learning_rate_decay = 0;  ///< by which the divisor of the learning rate grows an update
  double weight_decay = 0;         ///< L2 penalty, 0: off
  double epsilon = 1e-10;          ///< keeps the divisor from 0
};

/// m = beta1 * m + (1 - beta1) * g; v = beta2 * v + (1 - beta2) * g^2;
/// p -= learning_rate * m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + epsilon). Kingma and Ba
/// 2015, algorithm 1.
struct Adam {
  double learning_rate = 1e-3;  ///< step size; a schedule multiplies it
  double beta1 = 0.9;           ///< part of the first moment that stays
  double beta2 = 0.999;         ///< part of the second moment that stays
  double epsilon = 1e-8;        ///< keeps the divisor from 0
  double weight_decay = 0;      ///< L2 penalty, 0: off
};

/// p *= 1 - learning_rate * weight_decay, then Adam with g = mean gradient. Loshchilov and Hutter
/// 2019, algorithm 2.
struct AdamW {
  double learning_rate = 1e-3;  ///< step size; a schedule multiplies it
  double beta1 = 0.9;           ///< part of the first moment that stays
  double beta2 = 0.999;         ///< part of the second moment that stays
  double epsilon = 1e-8;        ///< keeps the divisor from 0
  double weight_decay = 0.01;   ///< decoupled from the gradient, 0: off
};

/// m and v as Adam's; u(t) = beta1 * (1 - 0.96^(t * momentum_decay) / 2), U(t) = u(1) * ... * u(t);
/// p -= learning_rate * ((1 - u(t)) / (1 - U(t)) * g + u(t + 1) / (1 - U(t + 1)) * m)
///      / (sqrt(v / (1 - beta2^t)) + epsilon).
/// Dozat 2016, algorithm 2, with the schedule of u that he proposes, as PyTorch's NAdam.
struct Nadam {
  double learning_rate = 2e-3;   ///< step size; a schedule multiplies it
  double beta1 = 0.9;            ///< part of the first moment that stays
  double beta2 = 0.999;          ///< part of the second moment that stays
  double epsilon = 1e-8;         ///< keeps the divisor from 0
  double weight_decay = 0;       ///< L2 penalty, 0: off
  double momentum_decay = 4e-3;  ///< how fast u(t) nears beta1
};

/// v = momentum * v + learning_rate * r * g; p -= v, with r = trust * |p| / (|mean gradient| +
/// weight_decay * |p|), norms over the whole parameter. r = 1 where a norm is 0, and for parameters
/// without weight decay (Parameter::decays), whose norms say little. You, Gitman and Ginsburg 2017,
/// algorithm 1.
struct Lars {
  double learning_rate = 0.01;  ///< step size; a schedule multiplies it
  double momentum = 0.9;        ///< part of the velocity that stays
  double weight_decay = 0;      ///< L2 penalty, 0: off
  double trust = 1e-3;          ///< part of the norm of a parameter that an update may change
};

/// No update: the arena's gradients become the mean over the workers, on every rank, and the
/// program updates the parameters itself between finish_step() and the next forward pass. For
/// "ring" and "none": a parameter server updates at the server.
struct MeanGradient {};

/// One of them.
using UpdateRule =
    std::variant<Sgd, Momentum, Nesterov, RmsProp, Adagrad, Adam, AdamW, Nadam, Lars, MeanGradient>;

/// False for MeanGradient.
constexpr bool updates_parameters(const UpdateRule& rule) {
  return !std::holds_alternative<MeanGradient>(rule);
}

/// "sgd", "momentum", "nesterov", "rmsprop", "adagrad", "adam", "adamw", "nadam", "lars".
std::vector<std::string_view> update_rule_names();

/// A rule by name, with the given learning rate or its own default; a wrong name is an error that
/// lists the valid ones.
Result<UpdateRule> make_update_rule(std::string_view name,
                                    std::optional<double> learning_rate = std::nullopt);
/// As update_rule_names(), or "mean-gradient".
std::string_view name_of(const UpdateRule& rule);

/// 0 where the rule has none, which a value does not change then.
double learning_rate_of(const UpdateRule& rule);
/// Nothing happens where the rule has none, as with set_weight_decay().
void set_learning_rate(UpdateRule& rule, double learning_rate);
/// 0 where the rule has none.
double weight_decay_of(const UpdateRule& rule);
/// See set_learning_rate().
void set_weight_decay(UpdateRule& rule, double weight_decay);

/// How many values of state each element has: 0, 1 or 2.
std::size_t states_of(const UpdateRule& rule);

/// Error (invalid_argument): a number that is not finite, or beyond what its formula can take.
Status validate(const UpdateRule& rule);

/// "momentum (learning_rate 0.1, momentum 0.9, weight_decay 0)": all numbers of it, exactly.
std::string describe(const UpdateRule& rule);

/// u(t) of Nadam.
double momentum_of(const Nadam& rule, std::uint64_t update);

}  // namespace dist
