// SPDX-License-Identifier: Apache-2.0
// Internal to libdist, its tests and benches: the arithmetic of an update on one instruction set.
// All sets give the same bits.
#pragma once

#include <array>
#include <cstddef>
#include <span>

#include "libdist/memory/instruction_set.h"
#include "libdist/types.h"
#include "libdist/update_rule.h"
#include "libdist/update_scalars.h"

namespace dist {

inline constexpr std::size_t kMostSummands = 4;

/// One update of `parameters` from the sum, in order, of 1 to kMostSummands gradients (raw bytes of
/// f32 or f64, all of one size). `states` is the state of the first of these elements, nullptr
/// where the rule has none.
void update_on(InstructionSet set, const UpdateRule& rule, DType dtype,
               std::span<std::byte> parameters,
               std::span<const std::span<const std::byte>> gradients,
               std::array<std::byte*, kMostStates> states, const UpdateScalars& scalars);

/// The sum of squares in double: in 16 sums side by side that are added up at the end.
double sum_of_squares_on(InstructionSet set, DType dtype, std::span<const std::byte> values);

}  // namespace dist
