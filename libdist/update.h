// SPDX-License-Identifier: Apache-2.0
// The update: gradients in, new parameters out, on a range of the arena. Ring workers run it on
// all of their replica, parameter servers on their shards: one code, so both give the same bits.
#pragma once

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "libdist/bucket/arena.h"
#include "libdist/memory/mapping.h"
#include "libdist/schedule.h"
#include "libdist/status.h"
#include "libdist/types.h"
#include "libdist/update_course.h"
#include "libdist/update_rule.h"

namespace dist {

struct UpdateScalars;

/// All that decides about an update. Any rule is one.
struct Update {
  /// A rule with a constant learning rate and without clipping.
  template <typename Rule>
  requires std::convertible_to<Rule, UpdateRule> Update(Rule chosen) : rule(std::move(chosen)) {}

  UpdateRule rule;  ///< with its hyper-parameters
  /// Of the rule's learning rate. A step is an update of the element: a server that applies every
  /// gradient by itself counts one a worker and step.
  Schedule schedule{};
  /// Off at 0. Otherwise the mean gradient of all parameters, taken as one vector, is multiplied by
  /// clip_factor() of its norm, see libdist/clip.h; of async-ps each worker's own gradient is.
  /// Weight decay comes after it.
  double clip_norm = 0;
  /// Leaves an update out whose gradients, over all parameters, are not all finite (or whose
  /// squares are beyond a double): for loss scaling. It counts as a step all the same.
  bool skip_not_finite = false;
};

/// Whether an update needs norms over whole parameters or all of them (clip_norm, skip_not_finite,
/// Lars): then no
/// element can be updated before all gradients of the step are there.
bool needs_norms(const Update& update);

/// Errors of validate() of its parts.
Status validate(const Update& update);

/// All numbers of it, exactly: two updates with the same description do the same.
std::string describe(const Update& update);

/// The layout of a whole arena.
UpdateLayout layout_of(const Arena& arena);

/// What an update is told of its step.
struct UpdateStep {
  double gradient_scale = 1;  ///< turns a sum into a mean: 1 / workers
  std::uint64_t step = 0;     ///< updates that were applied to these elements before
  /// Where the update needs norms: what add_squares() summed up over all gradients of the step.
  std::span<const double> squares = {};
};

/// An update and its state for a fixed set of elements (an arena, or one server's shards). The
/// owner decides which elements; positions are local: 0 .. elems - 1.
class Updater {
 public:
  /// One parameter, state as ordinary memory; asserts that it could be mapped.
  Updater(Update update, Elems elems, DType dtype);

  /// The same with an error instead (resource, or invalid_argument of validate()), and with the
  /// state mapped onto a window of `alias_window` bytes unless that is 0, like an arena
  /// (ArenaOptions::alias_window).
  static Result<Updater> create(Update update, const UpdateLayout& layout, DType dtype,
                                Bytes alias_window = {});

  /// Applies the update to `parameters` and the state at [first, first + n), where n is the number
  /// of elements in the spans (raw bytes of dtype). Element by element the same operations in the
  /// same order, so the result does not depend on how a range is cut. Several threads may do so at
  /// once for ranges that do not meet.
  void apply(std::span<std::byte> parameters, std::span<const std::byte> gradients,
             std::uint64_t first, const UpdateStep& step);

  /// The same with the sum of several gradients, in their order, in one pass over memory: the bits
  /// of reduce_in_order() followed by apply().
  void apply_sum(std::span<std::byte> parameters,
                 std::span<const std::span<const std::byte>> gradients, std::uint64_t first,
                 const UpdateStep& step);

  /// That of its update.
  bool needs_norms() const { return dist::needs_norms(update_); }

  /// Numbers that add_squares() adds to: 0 where no norm is needed.
  std::size_t square_count() const { return needs_norms() ? 2 * course_.parameters() : 0; }

  /// Adds the squares of the summed gradients at [first, first + n), by parameter, then those of
  /// the parameters, where the rule asks for them. Sums over disjoint ranges add up to the whole's
  /// but for rounding: in double, in an order that depends on the range alone.
  void add_squares(std::span<const std::byte> parameters, std::span<const std::byte> gradients,
                   std::uint64_t first, std::span<double> squares) const;

  /// Values of state an element has, each in an array of its own.
  std::size_t state_arrays() const { return states_of(update_.rule); }
  /// One of these arrays at [range.begin, range.end): raw bytes of dtype. For checkpoints.
  std::span<std::byte> state(std::size_t array, Range range) const;

  /// Memory of the state, touched or not.
  Bytes state_bytes() const;

  /// What it applies.
  const Update& update() const { return update_; }
  /// False with MeanGradient.
  bool updates_parameters() const { return dist::updates_parameters(update_.rule); }
  /// Of the rule, from the next apply() on.
  void set_learning_rate(double learning_rate);

 private:
  Updater(Update update, const UpdateLayout& layout, DType dtype, std::array<Mapping, 2> states);
  double total_of(const UpdateStep& step) const;
  double scale_of(const UpdateStep& step) const;
  double trust_of(const UpdateLayout::Part& part, const UpdateStep& step, double scale) const;
  void apply_part(std::span<std::byte> parameters,
                  std::span<const std::span<const std::byte>> gradients, std::uint64_t first,
                  const UpdateScalars& scalars);

  Update update_;
  Elems elems_;
  UpdateCourse course_;
  DType dtype_;
  std::array<Mapping, 2> states_;
};

}  // namespace dist
