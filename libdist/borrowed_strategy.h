// SPDX-License-Identifier: Apache-2.0
// Any strategy for parameters and gradients that lie outside the arena (Parameter::own_gradients):
// copies in before each exchange and out after it.
#pragma once

#include <memory>

#include "libdist/bucket/arena.h"
#include "libdist/strategy.h"

namespace dist {

/// Whether any parameter of the arena lies in memory of the program's own.
bool borrows(const Arena& arena);

/// `inner` works on `arena`, which must outlive it. With `updates` the parameters are copied back
/// after each step, otherwise (the rule mean-gradient) the gradients.
std::unique_ptr<Strategy> make_borrowed_strategy(std::unique_ptr<Strategy> inner, Arena& arena,
                                                 bool updates);

}  // namespace dist
