// SPDX-License-Identifier: Apache-2.0
// Internal to libdist, its tests and benches: the arithmetic of an update on one instruction set.
// All sets give the same bits.
#pragma once

#include <cstddef>
#include <span>

#include "libdist/memory/instruction_set.h"
#include "libdist/types.h"
#include "libdist/update.h"

namespace dist {

inline constexpr std::size_t kMostSummands = 4;

/// One update of `parameters` from the sum, in order, of 1 to kMostSummands gradients (raw bytes of
/// f32 or f64, all of one size). `velocity` is the state of the first of these elements, nullptr
/// for a rule without state.
void update_on(InstructionSet set, const UpdateRule& rule, DType dtype,
               std::span<std::byte> parameters,
               std::span<const std::span<const std::byte>> gradients, std::byte* velocity,
               double gradient_scale);

}  // namespace dist
