// SPDX-License-Identifier: Apache-2.0
// The update: gradients in, new parameters out, on a range of the arena. Ring workers run it on
// all of their replica, parameter servers on their shards: one code, so both give the same bits.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>
#include <variant>

#include "libdist/memory/mapping.h"
#include "libdist/status.h"
#include "libdist/types.h"

namespace dist {

// In the formulas p = parameter, v = velocity (starts at 0), g = scale * gradient + weight_decay *
// p.

/// p -= learning_rate * g.
struct Sgd {
  double learning_rate = 0.01;
  double weight_decay = 0;
};

/// v = momentum * v + g; p -= learning_rate * v. The form of Sutskever et al. 2013 as PyTorch and
/// document-002's frameworks apply it (learning rate outside the velocity).
struct Momentum {
  double learning_rate = 0.01;
  double momentum = 0.9;
  double weight_decay = 0;
};

/// v = momentum * v + g; p -= learning_rate * (g + momentum * v).
struct Nesterov {
  double learning_rate = 0.01;
  double momentum = 0.9;
  double weight_decay = 0;
};

/// No update: the arena's gradients become the mean over the workers, on every rank, and the
/// program updates the parameters itself between finish_step() and the next forward pass. For
/// "ring" and "none": a parameter server updates at the server.
struct MeanGradient {};

using UpdateRule = std::variant<Sgd, Momentum, Nesterov, MeanGradient>;

constexpr bool updates_parameters(const UpdateRule& rule) {
  return !std::holds_alternative<MeanGradient>(rule);
}

/// "sgd", "momentum" or "nesterov" with the given learning rate; anything else is an error that
/// lists the valid names.
Result<UpdateRule> make_update_rule(std::string_view name, double learning_rate);
std::string_view name_of(const UpdateRule& rule);

/// A rule and its state for a fixed set of elements (an arena, or one server's shards). The owner
/// decides which elements; positions are local: 0 .. elems - 1. Not thread-safe.
class Updater {
 public:
  /// State as ordinary memory; asserts that it could be mapped.
  Updater(UpdateRule rule, Elems elems, DType dtype);

  /// The same with an error instead (resource), and with the state mapped onto a window of
  /// `alias_window` bytes unless that is 0, like an arena (ArenaOptions::alias_window).
  static Result<Updater> create(UpdateRule rule, Elems elems, DType dtype, Bytes alias_window);

  /// Applies the rule to `parameters` and the state at [first, first + n), where n is the number of
  /// elements in the spans (raw bytes of dtype). `gradient_scale` turns a sum into a mean (1 /
  /// workers). Element by element the same operations in the same order, so the result does not
  /// depend on how a range is cut.
  void apply(std::span<std::byte> parameters, std::span<const std::byte> gradients,
             std::uint64_t first, double gradient_scale);

  /// The same with the sum of several gradients, in their order, in one pass over memory: the bits
  /// of reduce_in_order() followed by apply().
  void apply_sum(std::span<std::byte> parameters,
                 std::span<const std::span<const std::byte>> gradients, std::uint64_t first,
                 double gradient_scale);

  /// Memory of the state, touched or not.
  Bytes state_bytes() const { return Bytes(state_.bytes().size()); }

  const UpdateRule& rule() const { return rule_; }
  bool updates_parameters() const { return dist::updates_parameters(rule_); }
  void set_learning_rate(double learning_rate);

 private:
  Updater(UpdateRule rule, Elems elems, DType dtype, Mapping state);

  UpdateRule rule_;
  Elems elems_;
  DType dtype_;
  Mapping state_;
};

}  // namespace dist
